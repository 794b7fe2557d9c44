"""Schemathesis reads /openapi.json and asks a real worker whether all of it is so, with all of its checks.

`nox -s schemathesis` runs these tests with thousands of cases; without M0_CASES they are a few hundred.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

if TYPE_CHECKING:
    from worker_process import Worker

CASES = int(os.environ.get("M0_CASES", "400"))
OPERATIONS = 6  # all but /shutdown, after which there is nobody to ask
HERE = Path(__file__).parent


def run(port: int, folder: Path, *more: str, location: str = "") -> dict[str, Any]:
    """Schemathesis's own report of a run."""
    location = location or f"http://127.0.0.1:{port}/openapi.json"
    command = [sys.executable, "-m", "schemathesis.cli", "run", location]
    command += ["--checks", "all", "--continue-on-failure", "--no-color"]
    command += ["--seed", "1", "--generation-database", "none"]  # the same cases every time
    command += ["--suppress-health-check", "too_slow"]  # a busy machine is no finding
    command += ["--exclude-path", "/shutdown", "--report-json-path", str(folder / "report.json"), *more]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert done.returncode == report["exit_code"], done.stdout + done.stderr
    report["told"] = done.stdout
    return report


def test_every_answer_is_as_described(launch: Any, tmp_path: Path) -> None:
    worker = launch("--max-tokens-out", "16")
    report = run(worker.port, tmp_path, "--max-examples", str(CASES // OPERATIONS))
    assert report["failures"] == report["errors"] == [], report["told"]
    assert report["complete"] is True
    assert report["exit_code"] == 0
    assert report["operations"]["tested"] == report["operations"]["selected"] == OPERATIONS
    assert report["test_cases"]["generated"] >= CASES
    assert worker.run(max_tokens=3).last["tokens_out"] == 3
    assert worker.end() == 0
    assert worker.errors == ""


def test_a_description_that_is_not_true_is_found_out(worker: Worker, tmp_path: Path) -> None:
    description = worker.request("GET", "/openapi.json").json
    request = description["components"]["schemas"]["ExecuteRequest"]["properties"]
    request["top_k"]["maximum"] += 1
    del description["paths"]["/cancel"]["post"]["responses"]["400"]
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(description), encoding="utf-8")
    command = ["--phases", "coverage", "--url", f"http://127.0.0.1:{worker.port}"]
    report = run(worker.port, tmp_path, *command, location=str(path))
    found = {(failure["title"], *failure["operations"]) for failure in report["failures"]}
    assert ("Schema-valid request rejected", "POST /execute") in found
    assert ("Undocumented status code", "POST /cancel") in found


def test_shutdown_answers_as_described(launch: Any) -> None:
    running: list[Worker] = [launch()]
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{running[0].port}/openapi.json")
    operation = schema["/shutdown"]["POST"]
    answers: list[int] = []

    @settings(
        max_examples=10 + CASES // 100,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        answer = case.call_and_validate(base_url=f"http://127.0.0.1:{running[0].port}")
        answers.append(answer.status_code)
        if answer.status_code == 202:
            assert running[0].exit() == 0
            running[0] = launch()

    check()
    assert 202 in answers
