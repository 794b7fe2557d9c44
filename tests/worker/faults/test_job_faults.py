"""Clients, logs, files and devices that fail while jobs wait and run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from fault_table import fault
from m0_models import probes
from m0_worker.gguf import GgufFile
from wire import JSON, ask, connect, eventually, job, post, refused, to_the_end
from worker_process import ROOT, Stream, command, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.probes import Probe
    from worker_process import Worker


@fault("waiting", "the client goes away", "its job is forgotten; `execute_end` says `disconnected`")
def test_a_waiting_client_leaves(worker: Worker) -> None:
    first = worker.stream(job_id="at-work", max_tokens=2048)
    first.until_token(0)
    second = worker.stream(job_id="leaves")
    eventually(lambda: worker.health()["waiting_jobs"] == 1)
    second.reset()
    worker.event("execute_end", job_id="leaves", outcome="disconnected")
    worker.request("POST", "/cancel", {"job_id": "at-work"})
    first.all()


@fault("waiting", "more jobs than --queue-depth", "503 with Retry-After")
def test_a_full_line(launch: Any) -> None:
    worker = launch("--queue-depth", "0")
    first = worker.stream(job_id="first", max_tokens=2048)
    first.until_token(0)
    assert refused(ask(worker.port, post("/execute", job("second"), JSON)), 503)["retriable"] is True
    worker.request("POST", "/cancel", {"job_id": "first"})
    first.all()


@fault("waiting", "a cancel", "`started`, `error` CANCELLED; it never generates")
def test_a_waiting_job_is_cancelled(worker: Worker) -> None:
    first = worker.stream(job_id="runs", max_tokens=2048)
    first.until_token(0)
    second = worker.stream(job_id="waits")
    eventually(lambda: worker.health()["waiting_jobs"] == 1)
    worker.request("POST", "/cancel", {"job_id": "waits"})
    assert [name for name, _ in second.all()] == ["started", "error"]
    worker.request("POST", "/cancel", {"job_id": "runs"})
    first.all()


@fault("generating", "the client resets the connection", "the job ends within a step; `disconnected`")
def test_a_client_resets(worker: Worker) -> None:
    stream = worker.stream(job_id="resets", max_tokens=2048)
    stream.until_token(5)
    stream.reset()
    worker.event("execute_end", job_id="resets", outcome="disconnected")


@fault("generating", "the client closes its sending half", "the same: it cannot be told from a client that closed")
def test_a_client_half_closes(worker: Worker) -> None:
    stream = worker.stream(job_id="half-closes", max_tokens=2048)
    stream.until_token(5)
    stream.socket.shutdown(socket.SHUT_WR)
    worker.event("execute_end", job_id="half-closes", outcome="disconnected")
    stream.close()


@fault("generating", "a cancel", "`error` CANCELLED; idempotent")
def test_a_cancel(worker: Worker) -> None:
    stream = worker.stream(job_id="cancelled", max_tokens=2048)
    stream.until_token(5)
    assert worker.request("POST", "/cancel", {"job_id": "cancelled"}).json["was_active"] is True
    assert stream.all()[-1][1]["code"] == "CANCELLED"
    assert worker.request("POST", "/cancel", {"job_id": "cancelled"}).json["was_active"] is False


@fault("generating", "more than --inference-timeout-sec", "`error` INFERENCE_TIMEOUT")
def test_a_job_takes_too_long(launch: Any) -> None:
    worker = launch("--inference-timeout-sec", "0.2")
    assert worker.run(max_tokens=2048).last["code"] == "INFERENCE_TIMEOUT"
    assert worker.run(max_tokens=2).last["tokens_out"] == 2


@fault("generating", "the KV cache does not fit", "`error` VRAM_OOM; `unhealthy` until a job succeeds")
def test_out_of_memory(launch: Any) -> None:
    worker = launch("--kv-cache-size-mb", "1")
    assert worker.run("a" * 6000, max_tokens=2048).last["code"] == "VRAM_OOM"
    assert worker.health()["status"] == "unhealthy"
    worker.run(max_tokens=2)
    assert worker.health()["status"] == "healthy"


@fault("generating", "the client does not read", "the others wait until --inference-timeout-sec, or 30 s, at most")
def test_a_client_does_not_read(launch: Any) -> None:
    worker = launch("--inference-timeout-sec", "1")
    with connect(worker.port, small=True) as lazy:
        lazy.sendall(post("/execute", job("lazy", max_tokens=2048), JSON))
        worker.event("execute_start", job_id="lazy")
        before = time.perf_counter()
        worker.run(max_tokens=2)
        assert time.perf_counter() - before < 5
        eventually(lambda: worker.health()["state"] == "idle")


def unread(script: Probe, which: str, *more: str, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    """A ready worker one of whose outputs nobody reads from then on."""
    port = free_port()
    process = subprocess.Popen(
        command(script.path, port, *more),
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if which == "stderr" else subprocess.DEVNULL,
    )
    assert process.stdout is not None
    while b'"ready"' not in process.stdout.readline():
        pass
    return process, port


def run(port: int, job_id: str = "a", **fields: object) -> Stream:
    stream = Stream(port, {"job_id": job_id, "prompt": "*", "max_tokens": 1, **fields})
    stream.all()
    return stream


@fault("log", "stdout is a pipe that nobody reads", "jobs go on; SIGTERM ends the worker, the log's end is lost")
def test_stdout_is_not_read(script: Probe) -> None:
    process, port = unread(script, "stdout")
    try:
        for number in range(150):
            assert run(port, f"{number}-{'x' * 900}").last["tokens_out"] == 1
        before = time.perf_counter()
        process.terminate()
        assert process.wait(5) == 0
        assert time.perf_counter() - before < 3
    finally:
        process.kill()
        process.communicate()


@fault("log", "stdout is read again after lines were dropped", "`log_dropped` with their number; every line is whole")
def test_stdout_is_read_again(script: Probe) -> None:
    process, port = unread(script, "stdout")
    try:
        started = 0
        for number in range(620):  # each job writes two lines of more than a kilobyte: more than the queue holds
            run(port, f"{number}-{'x' * 1000}")
            started += 1
        assert process.stdout is not None
        lines: list[dict[str, Any]] = []
        reader = threading.Thread(target=lambda: lines.extend(json.loads(line) for line in process.stdout or ()))
        reader.start()
        time.sleep(0.5)
        run(port, "after")
        process.terminate()
        assert process.wait(5) == 0
        reader.join(5)
        dropped = sum(line["lines"] for line in lines if line["event"] == "log_dropped")
        told = sum(line["event"] in {"execute_start", "execute_end"} for line in lines)
        assert dropped > 0
        assert told + dropped == 2 * (started + 1)
        assert lines[-1]["event"] == "shutdown"
    finally:
        process.kill()
        process.communicate()


@fault("log", "stdout is closed by its reader", "the log ends, the worker does not")
def test_stdout_is_closed(script: Probe) -> None:
    process, port = unread(script, "stdout")
    try:
        assert process.stdout is not None
        process.stdout.close()
        for _ in range(3):
            assert run(port).last["tokens_out"] == 1
        process.terminate()
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()


@fault("log", "stdout was made non-blocking by whoever shares it", "every line is written")
def test_stdout_does_not_block(script: Probe) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    port = free_port()
    process = subprocess.Popen(command(script.path, port), cwd=ROOT, stdout=write, stderr=subprocess.DEVNULL)
    os.close(write)
    received = bytearray()
    try:
        with os.fdopen(read, "rb", buffering=0) as pipe:
            while b'"ready"' not in received:
                received += pipe.read(65536) or b""
            for number in range(100):
                run(port, f"{number}-{'x' * 900}")
            process.terminate()
            while chunk := pipe.read(65536):
                received += chunk
        assert process.wait(5) == 0
        lines = [json.loads(line) for line in received.splitlines()]
        assert sum(line["event"] == "execute_end" for line in lines) == 100
    finally:
        process.kill()
        process.wait()


@fault("log", "stdout goes to a full disk", "the worker goes on without its log")
def test_the_disk_is_full(script: Probe) -> None:
    port = free_port()
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        process = subprocess.Popen(command(script.path, port), cwd=ROOT, stdout=full, stderr=subprocess.PIPE)
    try:
        eventually(lambda: _listens(port), 20)
        assert run(port).last["tokens_out"] == 1
        process.terminate()
        assert process.wait(5) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.communicate()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 120 MB in float32, above the 64 MiB that the CPU device keeps expanded."""
    path: Path = probes.catalogue()["script-deep"].write(tmp_path_factory.mktemp("deep") / "deep.gguf").path
    return path


def _damaged(copy: Path, damage: str) -> None:
    size = copy.stat().st_size
    if damage == "truncated":
        os.truncate(copy, 4096)
    elif damage == "overwritten":
        with copy.open("r+b") as file:
            for _ in range(0, size, 1 << 20):
                file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())
    elif damage == "deleted":
        copy.unlink()
    else:
        other = copy.with_suffix(".new")
        other.write_bytes(os.urandom(size))
        other.replace(copy)


def judge_damage(launch: Any, deep: Path, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(deep.read_bytes())
    worker = launch(model=copy)
    before = worker.run(max_tokens=40, temperature=0).text
    stream = worker.stream(max_tokens=40, temperature=0)
    stream.until_token(3)
    _damaged(copy, damage)
    stream.all()
    assert stream.text == before
    assert worker.run(max_tokens=40, temperature=0).text == before
    assert worker.health()["status"] == "healthy"
    assert worker.end() == 0


@fault("model file", "cut short while it is served", "nothing: the weights lie in memory of the worker's own")
def test_the_model_is_cut_short(launch: Any, deep: Path, tmp_path: Path) -> None:
    judge_damage(launch, deep, tmp_path, "truncated")


@fault("model file", "overwritten in place while it is served", "nothing, for the same reason")
def test_the_model_is_overwritten(launch: Any, deep: Path, tmp_path: Path) -> None:
    judge_damage(launch, deep, tmp_path, "overwritten")


@fault("model file", "deleted, or replaced by another, while it is served", "nothing")
@pytest.mark.parametrize("damage", ["deleted", "replaced"])
def test_the_model_is_replaced(launch: Any, deep: Path, tmp_path: Path, damage: str) -> None:
    judge_damage(launch, deep, tmp_path, damage)


@fault("model file", "written to while it is loaded", "exit 1, MODEL_LOAD_FAILED; cut short: that, or SIGBUS")
def test_the_model_is_written_to_while_it_is_loaded(launch: Any, deep: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(deep.read_bytes())
    worker = launch(model=copy, wait=False)
    stop = threading.Event()

    def touch() -> None:
        with copy.open("r+b") as file:
            while not stop.is_set():
                file.seek(0)
                file.write(b"GGUF")
                file.flush()
                time.sleep(0.002)

    writer = threading.Thread(target=touch)
    writer.start()
    try:
        assert worker.exit() == 1
    finally:
        stop.set()
        writer.join()
    assert worker.event("error", code="MODEL_LOAD_FAILED")["reason"] == "changed"
    assert GgufFile.open(deep).size == copy.stat().st_size


@pytest.fixture
def receiver() -> Any:
    """Listens and does what it is told with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def _callback(launch: Any, listener: socket.socket, answer: Any, url: str = "") -> tuple[Worker, dict[str, Any]]:
    port = listener.getsockname()[1]

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    worker = launch("--callback-url", url.format(port=port) or f"http://127.0.0.1:{port}/ready")
    narrated = worker.event("callback")
    assert worker.run(max_tokens=1).last["tokens_out"] == 1
    return worker, narrated


@fault("callback", "nobody answers", "logged after 5 s; the worker serves all the while")
def test_a_callback_that_nobody_answers(launch: Any, receiver: socket.socket) -> None:
    worker, narrated = _callback(launch, receiver, lambda _: time.sleep(8))
    assert narrated["outcome"] == "failed"
    assert worker.end() == 0


@fault("callback", "an answer without end, in head or body", "ended after its status, or 5 s")
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_callback_answered_without_end(launch: Any, receiver: socket.socket, head: bytes) -> None:
    def endless(connection: socket.socket) -> None:
        part = head if head.startswith(b"HTTP/1.1 100") else b"x: y\r\n" * 1000
        try:
            connection.sendall(head)
            while True:
                connection.sendall(part)
        except OSError:
            pass

    worker, narrated = _callback(launch, receiver, endless)
    assert narrated["outcome"] == ("delivered" if head.endswith(b"OK\r\n\r\n") else "failed")
    assert worker.end() == 0


@fault("callback", "credentials in its URL", "sent, never logged: user, password and values of the query are `***`")
def test_credentials_of_a_callback(launch: Any, receiver: socket.socket) -> None:
    url = "http://user:pw-81@127.0.0.1:{port}/ready?token=t-17"
    worker, narrated = _callback(launch, receiver, lambda c: c.sendall(b"HTTP/1.1 204 No Content\r\n\r\n"), url)
    assert narrated["outcome"] == "delivered"
    worker.end()
    assert "pw-81" not in worker.raw + worker.errors
    assert "t-17" not in worker.raw + worker.errors


@fault("recording", "ORCH_LOG_FILE cannot be written any more", "`recording_failed`; jobs are not disturbed")
def test_a_recording_that_cannot_be_written(script: Probe, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    process, port = unread(script, "stdout", ORCH_LOG_FILE=str(folder / "log.jsonl"))
    try:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        assert run(port).last["tokens_out"] == 1
        assert process.stdout is not None
        while b'"recording_failed"' not in process.stdout.readline():
            pass
        assert run(port).last["tokens_out"] == 1
        process.terminate()
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.communicate()


@fault("shutdown", "clients that do not read, one running and eight waiting", "exit 0 within 30 s in all")
def test_a_shutdown_with_clients_that_do_not_read(launch: Any) -> None:
    worker = launch()
    crowd = [connect(worker.port, small=True) for _ in range(9)]
    for number, lazy in enumerate(crowd):
        lazy.sendall(post("/execute", job(f"lazy-{number}", max_tokens=2048), JSON))
        time.sleep(0.05)
    lost = [connect(worker.port) for _ in range(5)]  # and some that say nothing, or half of it
    for each in lost[2:]:
        each.sendall(b"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    eventually(lambda: worker.health()["waiting_jobs"] == 8)
    before = time.perf_counter()
    assert worker.end() == 0
    assert time.perf_counter() - before < 30
    ends = [line for line in worker.lines if line["event"] == "execute_end"]
    assert len(ends) == 9
    for each in crowd + lost:
        each.close()


@fault("shutdown", "a second signal", "the running job ends at once, `error` CANCELLED")
@pytest.mark.parametrize("pair", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGINT)])
def test_a_second_signal(launch: Any, pair: tuple[int, int]) -> None:
    worker = launch("--inference-timeout-sec", "60")
    stream = worker.stream(max_tokens=2048)
    stream.until_token(0)
    worker.process.send_signal(pair[0])
    worker.event("shutdown", phase="draining", reason=signal.Signals(pair[0]).name)
    worker.process.send_signal(pair[1])
    assert stream.all()[-1][1].get("code") == "CANCELLED"
    assert worker.exit() == 0


@fault("shutdown", "SIGHUP, SIGINT or SIGTERM while a job runs", "the job goes on to its end, new ones get 503; exit 0")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_job_runs(launch: Any, number: int) -> None:
    worker = launch()
    stream = worker.stream(max_tokens=2048)
    stream.until_token(0)
    worker.process.send_signal(number)
    worker.event("shutdown", phase="draining")
    refused(ask(worker.port, post("/execute", job(), JSON)), 503)
    assert stream.all()[-1][0] == "end"
    assert worker.exit() == 0
    assert worker.errors == ""


@fault("shutdown", "signals all the way down", "exit 0: the worker is ending already")
def test_signals_all_the_way_down(launch: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        worker = launch()
        while worker.process.poll() is None:
            worker.process.send_signal(number)
            time.sleep(0.001)
        assert worker.exit() == 0
        assert worker.errors == ""


def test_the_client_is_not_told_of_what_it_did_not_do(worker: Worker) -> None:
    with connect(worker.port) as connection:
        connection.sendall(post("/execute", job("plain"), JSON))
        assert b'"tokens_out":2' in to_the_end(connection)
