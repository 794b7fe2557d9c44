"""CONTRIBUTING.md, followed word for word in a copy of the packages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import m0_conformance
import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^ {3}```(\w+)(?: ([^\n]+))?\n(.*?)^ {3}```$", re.MULTILINE | re.DOTALL)


def recipe(title: str) -> list[tuple[dict[str, str], str]]:
    """The blocks below a heading: what each says about its file, and its text."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.split(f"## {title}\n")[1].split("\n## ")[0]
    found = []
    for _, words, text in BLOCK.findall(section):
        found.append((dict(word.split("=") for word in words.split()), textwrap.dedent(text)))
    assert found
    return found


class Copy:
    """A copy of the suite that runs instead of the installed one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "m0_conformance"
        shutil.copytree(
            Path(m0_conformance.__file__).parent, self.package, ignore=shutil.ignore_patterns("__pycache__")
        )
        self.touched: set[Path] = set()

    def follow(self, where: dict[str, str], text: str) -> None:
        """Append a block to its file, make the file, or put it after the line that holds a word."""
        path = self.package / (where.get("append") or where["file"])
        self.touched.add(path)
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if "append" in where:
            path.write_text(old.rstrip("\n") + "\n\n\n" + text, encoding="utf-8")
        elif "after" in where:
            lines = old.splitlines(keepends=True)
            at = next(number for number, line in enumerate(lines) if where["after"] in line)
            indent = "    " if text.startswith('"') else ""
            path.write_text("".join([*lines[: at + 1], indent + text, *lines[at + 1 :]]), encoding="utf-8")
        else:
            assert not old
            path.write_text(text, encoding="utf-8")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`m0-conformance …` of the copy."""
        return subprocess.run(
            [sys.executable, "-m", "m0_conformance", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
        )


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_a_clause_with_check_judge_and_defect(copy: Copy) -> None:
    name = "M0-W-1320/small-answer"
    blocks = recipe("Add a clause with its check, judge and defect")
    commands = [line for where, text in blocks if not where for line in text.splitlines()]
    for where, text in blocks:
        if where:
            copy.follow(where, text)
    assert len(copy.touched) == 4
    assert len({path.parent for path in copy.touched}) == 1, "one folder"
    assert [line.split()[1] for line in commands] == ["run", "selftest", "spec"]

    published = copy.run("spec", "publish")
    assert "frozen: " in published.stdout, published.stdout + published.stderr
    assert (
        "not sealed: there is no reports/selftest/kill_matrix.json; run `m0-conformance selftest`" in published.stdout
    )
    checked = copy.run("spec", "check")
    assert checked.returncode == 0, checked.stdout
    explained = copy.run("explain", name).stdout
    for word in ("health::test_size_of_the_answer", "health.small_answer", "health-padded: /health carries"):
        assert word in explained

    done = copy.run("run", "--profile", "m0-wire")
    report = json.loads((copy.folder / "reports/conformance/report.json").read_text(encoding="utf-8"))
    clauses = {clause["id"]: clause for requirement in report["requirements"] for clause in requirement["clauses"]}
    assert clauses[name]["status"] == "PASS"
    assert report["verdict"] == "CONFORMANT", done.stdout
    proven = copy.run("selftest", "--only", "health-padded")
    assert "kills 1/1 seeded defects" in proven.stdout, proven.stdout
    refused = copy.run("spec", "publish")
    assert refused.returncode == 1
    assert "is of 1 defects only; run `m0-conformance selftest`" in refused.stdout


def test_a_clause_without_judge_or_defect_is_not_published(copy: Copy) -> None:
    for where, text in recipe("Add a clause with its check, judge and defect")[:2]:
        copy.follow(where, text)
    refused = copy.run("spec", "publish")
    assert refused.returncode == 1
    assert "check of a clause that no judge speaks about: M0-W-1320/small-answer" in refused.stdout
    assert "active clause without a defect, or a reason in `no_defect`: M0-W-1320/small-answer" in refused.stdout
    assert "frozen" not in refused.stdout


def test_a_report_format(copy: Copy) -> None:
    for where, text in recipe("Add a report format"):
        copy.follow(where, text)
    copy.run("run", "--requirement", "M0-W-1320/status")
    written = copy.run("report", "--format", "csv")
    assert written.stdout.strip() == "reports/conformance/report.csv", written.stderr
    rows = (copy.folder / "reports/conformance/report.csv").read_text(encoding="utf-8").splitlines()
    assert "M0-W-1320/status,MUST,PASS" in rows


class Packages:
    """A copy of worker, models and parity toolkit that runs instead of the installed ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.roots = [folder / room for room in ("worker", "models", "parity")]
        for root in self.roots:
            package = f"m0_{root.name}"
            shutil.copytree(
                ROOT / root.name / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "golden")
            )

    def follow(self, where: dict[str, str], text: str) -> None:
        """Append a block to its file, or put each run of `+` lines where the run of `-` lines before it stands."""
        path = self.folder / (where.get("append") or where["file"])
        old = path.read_text(encoding="utf-8")
        if "append" in where:
            path.write_text(old.rstrip("\n") + "\n\n\n" + text, encoding="utf-8")
            return
        for change in re.findall(r"(?:^-.*\n)+(?:^\+.*\n)*", text, re.MULTILINE):
            out, put = ("".join(line[1:] + "\n" for line in change.splitlines() if line[0] == sign) for sign in "-+")
            assert old.count(out) == 1, f"{path} has {old.count(out)} times\n{out}"
            old = old.replace(out, put)
        path.write_text(old, encoding="utf-8")

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """A command of a recipe, in the folder of the copy."""
        program, *words = line.split()
        return subprocess.run(
            [sys.executable, "-P", "-m", program.replace("-", "_"), *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.fspath, self.roots))},
        )

    def follow_all(self, title: str) -> list[str]:
        """Do what a recipe says up to its commands, which must fail before and are returned."""
        blocks = recipe(title)
        commands = [line for where, text in blocks if not where for line in text.splitlines()]
        for where, text in blocks:
            if where:
                self.follow(where, text)
        return commands


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    return Packages(tmp_path)


def test_an_architecture(packages: Packages) -> None:
    adapters = packages.folder / "worker" / "m0_worker" / "adapters"
    assert "`cp worker/m0_worker/adapters/llama.py worker/m0_worker/adapters/orion.py`" in (
        ROOT / "CONTRIBUTING.md"
    ).read_text(encoding="utf-8")
    shutil.copy(adapters / "llama.py", adapters / "orion.py")
    write, compare = packages.follow_all("Add an architecture")
    written = packages.run(write)
    assert written.returncode == 0, written.stderr
    done = packages.run(compare)
    assert "equal within every bound" in done.stdout, done.stdout + done.stderr
    source = (adapters / "orion.py").read_text(encoding="utf-8")
    (adapters / "orion.py").write_text(source.replace('rope("neox"', 'rope("norm"'), encoding="utf-8")
    wrong = packages.run(compare)
    assert wrong.returncode == 1
    assert "first divergence: Qcur of layer 0" in wrong.stdout
    assert "RoPE pairing" in wrong.stdout


def test_a_storage_type(packages: Packages) -> None:
    bitwise, write, compare = packages.follow_all("Add a storage type")
    done = packages.run(bitwise)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TQ2_0" in done.stdout
    assert packages.run(write).returncode == 0
    done = packages.run(compare)
    assert "equal within every bound" in done.stdout, done.stdout + done.stderr


def test_a_pre_tokenizer(packages: Packages) -> None:
    (compare,) = packages.follow_all("Add a pre-tokenizer")
    done = packages.run(f"{compare} --count 500")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a.x-4.0" in done.stdout
