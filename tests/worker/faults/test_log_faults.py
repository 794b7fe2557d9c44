"""A log that nobody reads, or that cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from fault_table import fault
from unread import listens, run, unread
from wire import eventually
from worker_process import ROOT, command, free_port

if TYPE_CHECKING:
    from m0_models.probes import Probe


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
        eventually(lambda: listens(port), 20)
        assert run(port).last["tokens_out"] == 1
        process.terminate()
        assert process.wait(5) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.communicate()


@fault("log", "stderr is a pipe that nobody reads", "whatever writes to it goes on at once; the end waits 0.3 s")
def test_stderr_is_not_read() -> None:
    program = (
        "import sys, time; from m0_worker.log_writer import ErrorStream, error_writer; writer = error_writer();"
        "sys.stderr = ErrorStream(writer); before = time.perf_counter();"
        "[sys.stderr.write('x' * 1000 + chr(10)) for _ in range(10_000)];"
        "assert writer.close(0.3) is False; print(time.perf_counter() - before)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert float(process.stdout.readline()) < 2
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.communicate()
