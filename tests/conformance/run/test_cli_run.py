"""The whole path: command line, process, doctor, checks, judges, report, exit code, judged again without a socket."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from m0_conformance.cli import main
from m0_conformance.judging.report_json import statuses
from m0_conformance.recording.store import StoreError
from m0_conformance.report.document import TruncatedRunError, read_report, read_stream
from m0_conformance.run.rejudge import judge_again
from m0_conformance.targets import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

ROOT = Path(__file__).parents[3]
FAKE = Path(__file__).with_name("fake_m0.py")
STREAM_CHECK = "--requirement=M0-W-1311/started-once"


def run(folder: Path, *words: str, timeout: float = 60.0) -> tuple[int, str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "m0_conformance", "run", "--report-dir", str(folder), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        cwd=folder.parent,
        env=dict(os.environ),
    )
    path = folder / "report.json"
    return done.returncode, done.stdout + done.stderr, json.loads(path.read_text()) if path.exists() else {}


def fake(sin: str = "") -> str:
    return shlex.join([sys.executable, str(FAKE), *(["--sin", sin] if sin else [])])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("run") / "out"
    code, _, report = run(folder, "--worker-command", fake(), STREAM_CHECK)
    assert code == 3  # a filtered run is PARTIAL
    return folder, report


def clause(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for r in report["requirements"] for c in r["clauses"] if c["id"] == name)


def test_a_run_leaves_a_sealed_report_with_evidence(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, report = finished
    assert read_report(folder)["digest"] == report["digest"]
    assert report["verdict"] == "PARTIAL"
    assert len(report["requirements"]) == 98
    once = clause(report, "M0-W-1311/started-once")
    assert once["status"] == "PASS"
    assert once["evidence"]["exchanges"] >= 4
    assert {line["kind"] for line in read_stream(folder / "run.ndjson")} == {
        *("header", "recording", "finding", "check", "footer"),
    }
    assert (folder / "report.html").exists()


def test_another_dialect_fails_just_the_framing_clause(tmp_path: Path) -> None:
    asked = (STREAM_CHECK, "--requirement=M0-W-1310/event-line")  # the console tells of what was asked for
    code, text, report = run(tmp_path / "out", "--worker-command", fake("json-type"), *asked)
    assert code == 1
    failed = {c["id"] for r in report["requirements"] for c in r["clauses"] if c["status"] == "FAIL"}
    assert failed == {"M0-W-1310/event-line"}
    assert "FAIL  M0-W-1310/event-line" in text
    assert "curl -N" in text
    assert "m0-conformance replay" in text


def test_rejudge_gives_the_same_statuses_and_opens_no_socket(
    finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report = finished

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "__init__", refuse)
    monkeypatch.setattr(asyncio, "open_connection", refuse)
    assert main(["rejudge", str(folder)]) == 0
    assert "0 statuses changed" in capsys.readouterr().out
    again = judge_again(folder, read_report(folder))
    assert statuses(again.report) == statuses(report)
    assert again.verdict == report["verdict"]


def test_a_changed_recording_or_a_cut_run_is_refused(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, report = finished
    sha = next(iter(report["recordings"]))
    copy = tmp_path / "copy"
    (copy / "transcripts").mkdir(parents=True)
    for path in folder.glob("transcripts/*.json"):
        text = path.read_text()
        (copy / "transcripts" / path.name).write_text(text.replace('"t0":', '"t0": ') if path.stem != sha else "{}")
    with pytest.raises(StoreError):
        judge_again(copy, report)
    lines = (folder / "run.ndjson").read_text().splitlines()
    (copy / "run.ndjson").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(TruncatedRunError):
        read_stream(copy / "run.ndjson")


@pytest.fixture
def mute_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_command_that_fails_gets_one_sentence(tmp_path: Path) -> None:
    code, text, report = run(tmp_path / "out", "--worker-command", "false")
    assert code == 3
    assert "LOOK the worker (script) ended before it was ready (exit code 1)" in text
    assert report["verdict"] == "INCONCLUSIVE"
    assert len(text.splitlines()) < 20
    assert not any(r["status"] == "PASS" for r in report["requirements"])


def test_the_doctor_names_what_is_no_worker(
    tmp_path: Path, mute_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(port: int) -> str:
        words = ["doctor", "--report-dir", str(tmp_path / "out"), "--timing-scale", "0.1"]
        assert main([*words, "--worker-url", f"http://127.0.0.1:{port}"]) == 3
        return capsys.readouterr().out

    assert "nothing listens on" in look(free_port())
    assert "never answers GET /health" in look(mute_port)
    monkeypatch.chdir(tmp_path)
    web = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    try:
        assert "is no M0 worker: POST /execute: HTTP 501" in look(web.server_address[1])
    finally:
        web.shutdown()
        web.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--worker-url", "https://h"], "only http:// URLs"),
        (["--worker-command", "no-such-program-at-all"], "there is no program"),
        (["--worker-url", "http://h:1", "--worker-command", "true"], "exclude each other"),
        (["--expected", "/nonexistent.toml"], "--expected"),
    ],
)
def test_usage_errors_are_one_sentence_and_exit_2(
    tmp_path: Path, words: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--report-dir", str(tmp_path), *words]) == 2
    shown = capsys.readouterr().err
    assert word in shown
    assert len(shown.splitlines()) == 1


def test_an_interrupted_run_leaves_no_worker_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "m0_conformance", "run", "--report-dir", str(tmp_path / "out")),
            *("--worker-command", fake(), STREAM_CHECK, "--requirement=M0-W-1320/*"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ),
    )
    workers: list[psutil.Process] = []
    deadline = time.monotonic() + 30
    while not workers and time.monotonic() < deadline:
        children = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in children if str(FAKE) in child.cmdline()]
        time.sleep(0.02)
    assert workers
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 3, output
    gone, alive = psutil.wait_procs(workers, timeout=5)
    assert gone
    assert not alive


def test_reading_commands(finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = finished
    assert main(["list", "M0-W-1311"]) == 0
    assert "one-terminal" in capsys.readouterr().out
    assert main(["explain", "M0-W-1311/one-terminal"]) == 0
    assert "streaming::test_ordinary_streams" in capsys.readouterr().out
    assert main(["explain", "M0-W-1311/one-termina"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["diff", str(folder), str(folder)]) == 0
    assert main(["report", str(folder), "--format", "md,badge", "--output", str(folder / "views")]) == 0
    assert main(["report", str(folder / "nowhere")]) == 2


def test_replay_repeats_a_recording(finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    folder, report = finished
    sha = next(sha for sha, check in report["recordings"].items() if check.startswith("streaming::"))
    port = free_port()
    worker = subprocess.Popen([sys.executable, str(FAKE), "--port", str(port)], stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        worker.stdout.readline()
        path = str(folder / "transcripts" / f"{sha}.json")
        assert main(["replay", path, "--worker-url", f"http://127.0.0.1:{port}"]) == 0
    finally:
        worker.terminate()
        worker.communicate()
    assert "POST /execute: HTTP 200" in capsys.readouterr().out
