"""Expected failures, differences and scripts through the command line, on real short runs of a worker with a sin."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from m0_conformance.cli import main
from m0_conformance.judging.finding import Finding, Status
from m0_conformance.run import scripts

ROOT = Path(__file__).parents[3]
FAKE = ROOT / "tests/conformance/run/fake_m0.py"
MATCHING = """
[[expected]]
clause = "M0-W-1312/token-index"
fingerprint = "index-gap"
reason = "counts from the prompt's end"
until = "2999-01-31"
"""
USELESS = """
[[expected]]
clause = "M0-W-1311/started-once"
fingerprint = "started-again"
reason = "mended long ago"
until = "2999-01-31"

[[expected]]
clause = "M0-W-1311/started-onec"
fingerprint = "x"
reason = "a slip of the pen"
until = "2999-01-31"

[[expected]]
clause = "M0-W-1312/token-index"
fingerprint = "index"
reason = "promised for 2024"
until = "2024-01-31"
"""


def fake(sin: str = "") -> str:
    return shlex.join([sys.executable, str(FAKE), *(["--sin", sin] if sin else [])])


def run(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "m0_conformance", "run", "--report-dir", str(folder), *words],
        capture_output=True,
        check=False,
        timeout=60,
        cwd=folder.parent,
        env=dict(os.environ),
    )
    return done.returncode, json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("offline")


def sinful(folder: Path, name: str, expected: str) -> tuple[int, dict[str, Any]]:
    path = folder / f"{name}.toml"
    path.write_text(expected)
    words = ("--worker-command", fake("index-gap"), "--requirement=M0-W-1311/started-once", "--expected", str(path))
    return run(folder / name, *words)


def test_an_expected_failure_keeps_the_run_green_but_not_conformant(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = sinful(folder, "expected", MATCHING)
    assert (code, report["verdict"]) == (0, "NON_CONFORMANT")
    ledger = report["expected_ledger"]
    assert ledger["clean"]
    assert [entry["clause"] for entry in ledger["expected"]] == ["M0-W-1312/token-index"]
    assert main(["rejudge", str(folder / "expected")]) == 0
    assert "0 statuses changed" in capsys.readouterr().out


def test_stale_unmatched_and_expired_entries_fail_the_run(folder: Path) -> None:
    code, report = sinful(folder, "useless", USELESS)
    ledger = report["expected_ledger"]
    assert code == 1
    assert not ledger["clean"]
    assert [entry["clause"] for entry in ledger["stale"]] == ["M0-W-1311/started-once"]
    assert "M0-W-1311/started-once" in ledger["unmatched"][0]["hint"]
    assert [entry["until"] for entry in ledger["expired"]] == ["2024-01-31"]


def test_diff_tells_a_regression_from_a_repair(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run(folder / "good", "--worker-command", fake(), "--requirement=M0-W-1311/started-once")
    assert code == 3  # a filtered run is PARTIAL
    if not (folder / "expected" / "report.json").exists():
        sinful(folder, "expected", MATCHING)
    assert main(["diff", str(folder / "good"), str(folder / "expected")]) == 1
    assert "M0-W-1312/token-index  PASS -> FAIL  new: index-gap" in capsys.readouterr().out
    assert main(["diff", str(folder / "expected"), str(folder / "good")]) == 0


def test_a_script_is_repeated_against_any_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps: list[scripts.Step] = [
        {"do": "execute", "job": "a", "max_tokens": 3},
        {"do": "health"},
        {"do": "finish", "job": "a"},
    ]
    seen = Finding("M0-W-1312/token-index", Status.FAIL, "index-gap")
    path = scripts.write(tmp_path, "jobs::test_any_history", steps, [seen])
    assert path.parent.name == "repro"
    assert main(["replay", str(path), "--worker-command", fake("index-gap")]) == 1
    assert "STILL M0-W-1312/token-index" in capsys.readouterr().out
    assert main(["replay", str(path), "--worker-command", fake()]) == 0
    assert "GONE M0-W-1312/token-index" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"script": 9, "steps": []}', "version"),
        ('{"script": 1}', "version"),
        ('{"a": 1}', "neither a recording nor a script"),
        ('{"script": 1, "steps": [{"do": "finish", "job": "z"}]}', "no step before it started"),
    ],
)
def test_a_file_that_cannot_be_repeated_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, word: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    target = ["--worker-url", "http://127.0.0.1:9"] if "a" in json.loads(text) else ["--worker-command", fake()]
    assert main(["replay", str(path), *target]) == 2
    assert word in capsys.readouterr().err
