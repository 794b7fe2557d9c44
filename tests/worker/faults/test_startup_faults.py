"""From the command line to `ready`: ports, signals, descriptors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from fault_table import fault
from m0_models import probes
from m0_worker.cli import UsageError, parse
from worker_process import ROOT, command, free_port, narrate_until

if TYPE_CHECKING:
    from m0_models.probes import Probe


@fault("command line", "a port that somebody listens on", "exit 2 within a second, one line on stderr")
def test_a_port_that_is_taken(script: Probe) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            command(script.path, taken.getsockname()[1]), cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert "already in use" in done.stderr
    assert done.stderr.count("\n") == 1


@fault(
    "command line", "a second worker on the port of one that still loads", "exit 2 within a second; the first serves"
)
def test_two_workers_on_one_port(script: Probe) -> None:
    for _ in range(5):
        port = free_port()
        pair = [
            subprocess.Popen(command(script.path, port), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        try:
            before = time.perf_counter()
            while all(each.poll() is None for each in pair):
                assert time.perf_counter() - before < 10, "both live"
                time.sleep(0.005)
            ended, lives = sorted(pair, key=lambda each: each.poll() is None)
            spent = psutil.Process(lives.pid).create_time()
            assert time.time() - spent < 3  # of which one is for the start of two interpreters on a busy machine
            out, err = ended.communicate(timeout=10)
            assert (ended.returncode, out) == (2, b"")
            assert b"already in use" in err
            assert lives.stdout is not None
            while b'"ready"' not in (line := lives.stdout.readline()):
                assert line
            lives.terminate()
            assert lives.wait(10) == 0
        finally:
            for each in pair:
                each.kill()
                each.communicate()


@fault("command line", "credentials in a --callback-url that is refused, or mistyped", "the line on stderr has none")
@pytest.mark.parametrize("argument", ["--callback-url", "--callback-ur"])
def test_credentials_on_the_command_line(script: Probe, argument: str) -> None:
    words = command(script.path, free_port(), argument, "http://user:pw-81@x:port/a?token=t-17")[4:]
    with pytest.raises(UsageError) as raised:
        parse(words)
    assert argument in str(raised.value)
    assert not {"pw-81", "t-17"} & set(str(raised.value).replace("=", " ").replace("@", " ").replace(":", " ").split())
    assert "pw-81" not in str(raised.value)
    assert "t-17" not in str(raised.value)


@fault("command line", "a stderr that nobody reads, and full", "the refusal waits a second, then exit 2")
def test_a_refusal_that_nobody_reads(script: Probe) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    process = subprocess.Popen(command(script.path, 80), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=write)
    try:
        assert process.wait(timeout=5) == 2
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)


@fault("start-up", "SIGTERM, SIGINT or SIGHUP at any moment", "exit 0 and one line that names the signal")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_at_any_moment(tmp_path: Path, number: int) -> None:
    model = probes.catalogue()["script-deep"].write(tmp_path / "deep.gguf").path
    name = signal.Signals(number).name
    told = []
    for step in range(24):
        process = subprocess.Popen(
            command(model, free_port()), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(0.03 * step)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        if process.returncode == -number and not out and "in main\n" not in err:
            continue  # the interpreter itself was starting: not the first statement of `main` had run
        assert process.returncode == 0, (step, process.returncode, err)
        lines = [json.loads(line) for line in out.splitlines()]
        if lines:
            assert err == ""
            assert lines[-1]["event"] == "shutdown"
            assert any(name in str(line.get("reason")) for line in lines if line["event"] == "shutdown")
            told.append(lines[-1].get("phase") or "loading")
        else:
            assert err == f"m0-worker: {name} before the start\n"
            told.append("before")
    assert {"before", "loading"} <= set(told), told


@fault("start-up", "SIGHUP under nohup", "nothing: it stays ignored")
def test_nohup(script: Probe) -> None:
    process = subprocess.Popen(
        ["nohup", *command(script.path, free_port())], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        narrate_until(process, "ready")
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()


@fault("start-up", "stdin, stdout and stderr closed, or any of them", "it serves, and ends with exit 0")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_descriptors(script: Probe, closed: tuple[int, ...]) -> None:
    port = free_port()
    words = command(script.path, port)
    program = f"import os; [os.close(fd) for fd in {closed}]; os.execv({words[0]!r}, {words!r})"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    assert connection.recv(4096).startswith(b"HTTP/1.1 200")
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.02)
        opened = {fd: str(Path(f"/proc/{process.pid}/fd/{fd}").readlink()) for fd in closed}
        assert set(opened.values()) == {"/dev/null"}
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


@fault("start-up", "a model file that is missing", "exit 1, one line with path and cure")
def test_a_missing_model(tmp_path: Path) -> None:
    words = command(tmp_path / "absent.gguf", free_port())
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "absent.gguf" in done.stderr


@fault("start-up", "a model file that is cut short", "exit 1, MODEL_LOAD_FAILED")
def test_a_model_that_is_cut_short(launch: Any, script: Probe, tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(script.path.read_bytes()[:-100_000])
    worker = launch(model=path, wait=False)
    assert worker.exit() == 1
    assert worker.event("error")["code"] == "MODEL_LOAD_FAILED"
    assert worker.errors.count("\n") == 1


@fault("start-up", "less memory than the model needs", "exit 1, INSUFFICIENT_VRAM with both numbers of bytes")
def test_too_little_memory(launch: Any, tmp_path: Path) -> None:
    worker = launch("--vram-limit-mb", "1", model=probes.script(tmp_path / "f32.gguf", quant="F32").path, wait=False)
    assert worker.exit() == 1
    error = worker.event("error", code="INSUFFICIENT_VRAM")
    assert error["bytes_needed"] > error["bytes_available"]


@fault("start-up", "ORCH_LOG_FILE that is a pipe", "exit 1: a recording must not wait for a reader")
def test_a_recording_into_a_pipe(script: Probe, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = subprocess.run(
        command(script.path, free_port()),
        cwd=ROOT,
        env=os.environ | {"ORCH_LOG_FILE": str(tmp_path / "pipe")},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert "ORCH_LOG_FILE" in done.stderr
