"""What others put into their CI, run here: the action, the GitLab job, and the whole example repository with both."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING

import m0_worker
import pytest
import yaml
from ci_runners import ActionRun, run_gitlab_job
from installing import ROOT

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = ROOT / "docs/example-worker"
TEMPLATE = ROOT / "ci/gitlab/m0-conformance.yml"
VIEWS = {"report.html", "report.json", "junit.xml", "summary.md", "badge.svg"}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example as its owner has it: a repository of its own, far from this one."""
    folder = tmp_path / "parrot"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "m0-report"))
    return folder


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runner's temporary folder; the suite is installed into it by the first job."""
    return tmp_path_factory.mktemp("runner")


def act(workspace: Path, runner: Path, **inputs: str) -> ActionRun:
    installed = frozenset({"Install the suite"} if (runner / "m0-suite").exists() else ())
    shutil.rmtree(runner / "artifact-m0-report", ignore_errors=True)
    shutil.rmtree(runner / "m0-report", ignore_errors=True)
    run = ActionRun(ROOT / "action.yml", workspace, runner, inputs, installed)
    run.run()
    return run


def job_of_the_example() -> dict[str, str]:
    document = yaml.safe_load((EXAMPLE / ".github/workflows/m0.yml").read_text())
    (job,) = document["jobs"].values()
    step = job["steps"][-1]
    assert step["uses"] == f"OWNER/m0-conformance@v{m0_worker.__version__}"
    return {name: str(value) for name, value in step["with"].items()}


def test_the_examples_job_on_github(example: Path, runner: Path) -> None:
    run = act(example, runner, **job_of_the_example())
    assert run.code == 0, run.text
    assert run.outputs["exit-code"] == "0"
    assert run.outputs["verdict"] == "NON_CONFORMANT"  # known deviations keep CI green and hide nothing
    assert "M0-W-1032/applies" in run.summary
    kept = run.artifacts["m0-report"]
    assert {path.name for path in kept.iterdir()} >= VIEWS
    assert (kept / "junit.xml").read_text().count("<testsuite ") >= 1
    assert (kept / "badge.svg").read_bytes() == (EXAMPLE / "badge.svg").read_bytes()
    ledger = json.loads((kept / "report.json").read_text())["expected_ledger"]
    assert ledger["clean"]
    entries = tomllib.loads((EXAMPLE / "expected-failures.toml").read_text())["expected"]
    assert {entry["clause"] for entry in ledger["expected"]} == {entry["clause"] for entry in entries}


def test_a_deviation_that_nobody_expects_fails_the_job(example: Path, runner: Path) -> None:
    arguments = "--requirement 'M0-W-1302*'"
    run = act(example, runner, **{"worker-command": "python3 worker.py", "profile": "m0-wire", "arguments": arguments})
    assert run.code == 1
    assert run.outputs["verdict"] == "NON_CONFORMANT"
    assert run.artifacts["m0-report"].is_dir()


def test_a_job_without_a_report_fails_and_says_why(example: Path, runner: Path) -> None:
    run = act(example, runner, **{"worker-command": "no-such-program", "artifact": ""})
    assert run.code == 2
    assert "no program 'no-such-program'" in run.text
    assert run.outputs["verdict"] == ""
    assert not run.artifacts


def test_the_examples_job_on_gitlab(example: Path, suite_wheel: Path) -> None:
    document = yaml.safe_load((EXAMPLE / ".gitlab-ci.yml").read_text())
    (included,) = document["include"]
    assert included["file"] == f"/{TEMPLATE.relative_to(ROOT)}"
    assert included["ref"] == f"v{m0_worker.__version__}"
    variables = {**document["m0-conformance"]["variables"], "M0_SUITE": str(suite_wheel)}
    done = run_gitlab_job(TEMPLATE, "m0-conformance", example, variables)
    assert done.returncode == 0, done.stdout + done.stderr
    artifacts = yaml.safe_load(TEMPLATE.read_text())["m0-conformance"]["artifacts"]
    assert (example / artifacts["reports"]["junit"]).is_file()
    assert {path.name for path in (example / artifacts["paths"][0]).iterdir()} >= VIEWS


def test_the_workflow_of_this_project_names_sessions_that_exist() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    sessions = set(re.findall(r"@nox\.session.*?\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.DOTALL))
    named = set(workflow["jobs"]["session"]["strategy"]["matrix"]["session"])
    named |= {
        word
        for job in workflow["jobs"].values()
        for s in job["steps"]
        for word in re.findall(r"nox -s (\w+)", s.get("run", ""))
    }
    assert named
    assert named <= sessions
    assert {"lint", "conformance", "selftest", "parity", "tests", "package", "container", "docs"} <= named


def test_the_templates_obey_their_schemas() -> None:
    for schema, files in {
        "vendor.github-actions": [ROOT / "action.yml"],
        "vendor.github-workflows": [*(ROOT / ".github/workflows").glob("*.yml"), EXAMPLE / ".github/workflows/m0.yml"],
        "vendor.gitlab-ci": [TEMPLATE, EXAMPLE / ".gitlab-ci.yml"],
    }.items():
        words = ["check-jsonschema", "--builtin-schema", schema, *map(str, files)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
