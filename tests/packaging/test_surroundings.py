"""The installed suite in somebody else's folder: what lies there, and the user's own pytest, stay out of the run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from installing import Installed

TRAP = "from pathlib import Path\nPath(__file__).with_name('{name}.was-run').touch()\nraise SystemExit('{name}')\n"
TRAPS = (
    *("worker", "models", "parity", "conformance"),
    *("m0_worker", "m0_models", "m0_parity", "m0_conformance"),
    *("conftest", "sitecustomize", "usercustomize", "plugin_of_the_user", "json", "numpy", "pytest"),
)
SETTINGS = {
    "pytest.ini": "[pytest]\naddopts = --no-such-option\n",
    "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--no-such-option'\n",
    "tox.ini": "[pytest]\naddopts = --no-such-option\n",
}
ENVIRONMENT = {
    "PYTEST_ADDOPTS": "--no-such-option",
    "PYTEST_PLUGINS": "plugin_of_the_user",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "",
}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in TRAPS:
        (folder / f"{name}.py").write_text(TRAP.format(name=name))
    for name in TRAPS[:8]:
        (folder / name).mkdir()
        for module in ("__init__", "__main__"):
            (folder / name / f"{module}.py").write_text(TRAP.format(name=module))
    for name, text in SETTINGS.items():
        (folder / name).write_text(text)
    return folder


def sprung(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.was-run"))


def test_the_traps_work(suite: Installed, hostile: Path, tmp_path: Path) -> None:
    done = suite.run("python", "-m", "m0_worker", cwd=hostile)
    assert done.returncode == 1
    assert sprung(hostile)
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        done = suite.run("python", "-P", "-m", "pytest", "-c", "/dev/null", cwd=tmp_path, env={name: ENVIRONMENT[name]})
        assert done.returncode == 4, name  # a usage error; 5 would be that there are no tests


def test_nothing_of_the_surroundings_reaches_a_run(suite: Installed, hostile: Path) -> None:
    before = {path.relative_to(hostile) for path in hostile.rglob("*")}
    done = suite.run(
        *("m0-conformance", "run", "--profile", "m0-process", "--allow-partial"),
        *("--requirement", "M0-W-1312*", "--requirement", "M0-W-1320*", "--requirement", "M0-W-1100*"),
        cwd=hostile,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sprung(hostile) == []
    report = json.loads((hostile / "reports/conformance/report.json").read_text())
    assert report["verdict"] == "PARTIAL"  # a part was asked for
    assert report["target"]["identity"]
    left = {path.relative_to(hostile) for path in hostile.rglob("*")} - before
    assert {path.parts[0] for path in left} == {"reports"}


@pytest.mark.parametrize(
    "command",
    [
        ("m0-conformance", "list", "M0-W-1312"),
        ("m0-conformance", "explain", "M0-W-1312"),
        ("m0-models", "list"),
        ("m0-parity", "--help"),
        ("m0-worker", "--help"),
    ],
    ids=" ".join,
)
def test_nothing_of_the_surroundings_reaches_a_command(
    suite: Installed, hostile: Path, command: tuple[str, ...]
) -> None:
    done = suite.run(*command, cwd=hostile, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert sprung(hostile) == []
