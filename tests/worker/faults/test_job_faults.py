"""Clients that leave, stop reading or ask for too much while jobs wait and run."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from fault_table import fault
from wire import JSON, ask, connect, eventually, fill, job, post, refused

if TYPE_CHECKING:
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
    eventually(lambda: worker.run(max_tokens=1).events[-1][0] == "end")  # a busy machine may take as long


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
        fill(lazy, post("/execute", job("lazy", max_tokens=2048), JSON))
        worker.event("execute_start", job_id="lazy")
        before = time.perf_counter()
        eventually(lambda: worker.run(max_tokens=1).events[-1][0] == "end")
        assert 0.5 < time.perf_counter() - before < 8  # held up, and not for ever
        eventually(lambda: worker.health()["state"] == "idle")
