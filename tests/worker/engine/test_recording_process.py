"""A real worker with and without ORCH_LOG_FILE: the same answers, and a line for every step once a job is over."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_models.probes import script

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
JOB = "5f8e3f7e-3f0a-4a6e-9a53-1d6f1f1c2a90"


@contextmanager
def worker(model: Path, environment: dict[str, str]) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    arguments = ["--worker-id", str(uuid.uuid4()), "--model", str(model), "--gpu-device", "0", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "m0_worker", *arguments, "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if '"ready"' in line:
                break
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


def execute(port: int, **body: Any) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    document = {"job_id": JOB, "prompt": "*", "max_tokens": 40, "temperature": 1.0, "seed": 7, **body}
    connection.request("POST", "/execute", json.dumps(document), {"Content-Type": "application/json"})
    answer = connection.getresponse().read()
    connection.close()
    return re.sub(rb'"(started_at|decode_time_ms|inference_time_ms)": ?("[^"]*"|[0-9.]+)', b"", answer)


def test_recording_changes_no_answer_and_loses_no_step(tmp_path: Path) -> None:
    model = script(tmp_path / "script.gguf").path
    log = tmp_path / "log.jsonl"
    with worker(model, {}) as port:
        plain = [execute(port), execute(port, prompt="$")]
    with worker(model, {"ORCH_LOG_FILE": str(log), "ORCH_LOG_VECTORS": "1"}) as port:
        assert [execute(port), execute(port, prompt="$")] == plain
        deadline = time.monotonic() + 10
        while not log.exists() or len(log.read_text().splitlines()) < 40 + 8:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # 40 tokens of the first job, seven words and the end of sequence of the second.
    assert len(lines) == 40 + 8
    assert {line["request_id"] for line in lines} == {JOB}
    assert [line["position"] for line in lines] == [*range(40), *range(8)]
    vectors = log.with_name("log.jsonl.vectors")
    assert vectors.stat().st_size == sum(line["vector"]["bytes"] for line in lines)


def written(log: Path, position: int) -> list[int]:
    """The positions in the log once the job that computed ``position`` is over."""
    deadline = time.monotonic() + 10
    while True:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        if lines and lines[-1]["position"] >= position:
            return [line["position"] for line in lines]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_cancelled_job_and_one_that_hangs_up_leave_every_step(tmp_path: Path) -> None:
    model = script(tmp_path / "script.gguf").path
    log = tmp_path / "log.jsonl"
    with worker(model, {"ORCH_LOG_FILE": str(log)}) as port:
        for way in ("cancel", "hang up"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            document = {"job_id": JOB, "prompt": "*", "max_tokens": 2000, "temperature": 0.0, "seed": 7}
            connection.request("POST", "/execute", json.dumps(document), {"Content-Type": "application/json"})
            stream = connection.getresponse()
            tokens = 0
            while tokens < 20:
                tokens += stream.readline().startswith(b"event: token")
            if way == "cancel":
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as other:
                    other.request("POST", "/cancel", json.dumps({"job_id": JOB}), {"Content-Type": "application/json"})
                    assert other.getresponse().status == 202
                tokens += stream.read().count(b"event: token")
            stream.close()
            connection.close()
            positions = written(log, tokens - 1)
            assert positions == list(range(len(positions)))
            assert tokens <= len(positions) < 2000
            log.write_text("")


def test_a_recording_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    model = script(tmp_path / "script.gguf").path
    arguments = ["--worker-id", str(uuid.uuid4()), "--model", str(model), "--gpu-device", "0", "--port", "28931"]
    started = subprocess.run(
        [sys.executable, "-P", "-m", "m0_worker", *arguments, "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "ORCH_LOG_FILE": str(tmp_path / "absent" / "log")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert started.returncode == 1
    assert "cannot write the recording" in started.stderr
