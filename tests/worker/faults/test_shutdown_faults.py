"""The way down, with clients, signals and steps that are in the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from fault_table import fault
from wire import JSON, ask, connect, eventually, fill, job, post, refused, to_the_end
from worker_process import ROOT, command, free_port, narrate_until

if TYPE_CHECKING:
    from m0_models.probes import Probe
    from worker_process import Worker


@fault("shutdown", "clients that do not read, one running and eight waiting", "exit 0 within 30 s in all")
def test_a_shutdown_with_clients_that_do_not_read(launch: Any) -> None:
    worker = launch()
    crowd = [connect(worker.port, small=True) for _ in range(9)]
    for number, lazy in enumerate(crowd):
        fill(lazy, post("/execute", job(f"lazy-{number}", max_tokens=2048), JSON))
        time.sleep(0.05)
    lost = [connect(worker.port) for _ in range(5)]  # and some that say nothing, or half of it
    for each in lost[2:]:
        each.sendall(b"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    eventually(lambda: worker.health()["waiting_jobs"] == 8)
    time.sleep(1)
    assert worker.health()["waiting_jobs"] == 8  # the first is held up
    before = time.perf_counter()
    assert worker.end() == 0
    assert 20 < time.perf_counter() - before < 30
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


HANGING = """
import sys, time
import m0_worker.lifecycle as lifecycle
from m0_worker.devices.cpu.device import CpuDevice
from m0_worker.__main__ import main
lifecycle._GIVE_UP_S = 1.0
try_out = lifecycle.try_out
def then_hang(*words):  # loading tries the model out, and may
    try_out(*words)
    CpuDevice.embed = lambda *_: time.sleep(600)
lifecycle.try_out = then_hang
sys.exit(main(sys.argv[1:]))
"""


@fault("shutdown", "a step that never returns", "exit 1 after 29 s; `shutdown` with `phase` `forced`")
def test_a_step_that_never_returns(script: Probe) -> None:
    port = free_port()
    words = command(script.path, port)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HANGING, *words[4:]], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        narrate_until(process, "ready")
        with connect(port) as connection:
            connection.sendall(post("/execute", job(), JSON))
            narrate_until(process, "execute_start")
            before = time.perf_counter()
            process.terminate()
            out, err = process.communicate(timeout=10)
        assert (process.returncode, err) == (1, b"")
        assert time.perf_counter() - before < 5
        last = json.loads(out.splitlines()[-1])
        assert (last["event"], last["phase"]) == ("shutdown", "forced")
    finally:
        process.kill()
        process.communicate()


@fault("shutdown", "connections that linger after the worker's end", "its port is free for the next worker at once")
def test_the_port_is_free_at_once(script: Probe) -> None:
    port = free_port()
    for _ in range(2):
        process = subprocess.Popen(command(script.path, port), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            narrate_until(process, "ready")
            assert b"200 OK" in ask(
                port, post("/execute", job(), JSON)
            )  # the worker closes first: TIME_WAIT is its own
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.communicate()
