"""Model files that change, receivers that misbehave, recordings that cannot be written."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from fault_table import fault
from m0_models import probes
from m0_worker.gguf import GgufFile
from unread import run, unread
from worker_process import narrate_until

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.probes import Probe
    from worker_process import Worker


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
        narrate_until(process, "recording_failed")
        assert run(port).last["tokens_out"] == 1
        process.terminate()
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.communicate()
