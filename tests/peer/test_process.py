from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from m0_models import probes
from m0_peer.arguments import Settings
from m0_peer.log import Log
from peer_process import command, free_port, peer, read_events


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("model") / "metronome.gguf"
    probes.catalogue()["metronome"].write(path)
    return path


def test_an_unread_log_stops_nothing(model: Path) -> None:
    with peer(model, stdout=subprocess.PIPE) as worker:
        for number in range(400):  # 64 KiB of pipe are full after some 150
            assert worker.events(job_id=str(number), max_tokens=1)[-1][0] == "end"
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(10) == 0


def test_of_two_workers_on_one_port_one_is_ready_and_the_other_exits(model: Path) -> None:
    port = free_port()
    both = [subprocess.Popen(command(model, port), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        deadline = time.monotonic() + 20
        while all(process.poll() is None for process in both) and time.monotonic() < deadline:
            time.sleep(0.02)
        (loser,) = [process for process in both if process.poll() is not None]
        (winner,) = [process for process in both if process is not loser]
        told = loser.communicate()
        assert loser.returncode in {1, 2}
        assert b"--port" in told[1]
        assert b'"ready"' not in told[0]
        winner.send_signal(signal.SIGTERM)
        assert b'"ready"' in winner.communicate(timeout=10)[0]
        assert winner.returncode == 0
    finally:
        for process in both:
            process.kill()
            process.communicate()


def test_without_a_line_the_second_job_is_refused_at_once(model: Path) -> None:
    with peer(model, "--queue-depth", "0") as worker:
        with worker.open(job_id="first", max_tokens=2048):
            status, body = worker.refusal("/execute", {"job_id": "second", "prompt": "*"})
            assert (status, body["code"], body["retriable"]) == (503, "INTERNAL", True)
            assert worker.refusal("/execute", {"job_id": "first", "prompt": "*"})[0] == 400
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:  # the first one's client has hung up
            with worker.open(job_id="third", max_tokens=1) as answer:
                if answer.status_code == 200:
                    assert read_events(answer.read())[-1][0] == "end"
                    return
        raise AssertionError("the line never became free")


def test_a_reader_that_stalls_holds_nobody_up_for_long(model: Path) -> None:
    with peer(model) as worker, worker.open(job_id="stalled", max_tokens=2048):
        began = time.monotonic()
        assert worker.events(job_id="next", max_tokens=1)[-1][0] == "end"
        assert time.monotonic() - began < 10


def test_a_timeout_ends_a_stream_with_its_code(model: Path) -> None:
    with peer(model, "--inference-timeout-sec", "0.05") as worker:
        name, payload = worker.events(max_tokens=2048)[-1]
        assert (name, payload["code"], payload["retriable"]) == ("error", "INFERENCE_TIMEOUT", True)


def test_a_cancel_ends_a_stream_with_its_code(model: Path) -> None:
    with peer(model) as worker, worker.open(job_id="a", max_tokens=2048) as answer:
        assert worker.refusal("/cancel", {"job_id": "a"}) == (202, {"job_id": "a", "was_active": True})
        name, payload = read_events(answer.read())[-1]
        assert (name, payload["code"], payload["retriable"]) == ("error", "CANCELLED", False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_at_any_moment_of_the_start_ends_it_cleanly(number: signal.Signals, model: Path) -> None:
    for delay in (0.1, 0.2, 0.3, 0.4, 0.5):
        process = subprocess.Popen(command(model, free_port()), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(delay)
        process.send_signal(number)
        _, told = process.communicate(timeout=10)
        # Before the interpreter runs the first line of ours, the signal has its usual effect.
        assert process.returncode in {0, -number}
        assert b"Traceback" not in told or process.returncode == -number


@pytest.mark.parametrize("header", [{"Content-Type": "text/plain"}, {"Content-Encoding": "gzip"}])
def test_what_is_declared_as_something_else_is_refused(header: dict[str, str], model: Path) -> None:
    with peer(model) as worker:
        status, body = worker.refusal("/execute", {"job_id": "1", "prompt": "*"}, header)
        assert status == 415
        assert [error["field"] for error in body["errors"]] == [next(iter(header)).lower()]


def test_a_fifo_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    words = command(tmp_path / "model.gguf", free_port())
    done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 1
    assert "--model" in done.stderr


def test_lost_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m0_peer.log.threading.Thread.start", lambda _self: None)  # nobody writes
    log = Log(Settings("id", Path("/m.gguf"), 0, 8080))
    for _ in range(4096 + 5):
        log.event("startup")
    log._lines.get()
    log.event("ready")
    lines = [json.loads(line) for line in list(log._lines.queue) if line is not None]
    assert lines[-1]["lines_lost"] == 5
