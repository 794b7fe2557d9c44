"""What happens around a job: cancel, disconnect, the waiting line, time-outs, memory, shutdown."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from worker_process import ROOT, Stream, command, free_port, narrate_until

if TYPE_CHECKING:
    from worker_process import Worker

SLOW = {"max_tokens": 2048}  # more than half a second of words


def cancel(worker: Worker, job_id: str) -> dict[str, Any]:
    answer = worker.request("POST", "/cancel", {"job_id": job_id})
    assert answer.status == 202
    return answer.json


def finish(worker: Worker, stream: Stream) -> None:
    """End a job that has served its purpose."""
    job_id = str(stream.events[0][1]["job_id"])
    cancel(worker, job_id)
    assert stream.all()[-1][1].get("code") == "CANCELLED"


def test_cancel_ends_a_running_job_at_once(worker: Worker) -> None:
    stream = worker.stream(job_id="victim", **SLOW)
    stream.until_token(20)
    before = time.perf_counter()
    assert cancel(worker, "victim")["was_active"] is True
    events = stream.all()
    assert time.perf_counter() - before < 0.5
    assert events[-1] == ("error", {"code": "CANCELLED", "message": "the job was cancelled", "retriable": False})
    assert len(stream.tokens()) < 2048
    assert cancel(worker, "victim")["was_active"] is False  # idempotent
    assert worker.event("execute_end", job_id="victim")["outcome"] == "cancelled"
    assert worker.run(max_tokens=3).last["tokens_out"] == 3


def test_cancel_of_an_unknown_job_is_accepted(worker: Worker) -> None:
    assert cancel(worker, "nobody") == {"job_id": "nobody", "was_active": False}


@pytest.mark.parametrize("body", [b"{}", b'{"job_id":""}', b'{"job_id":7}', b"", b"[]", b"{"])
def test_cancel_without_a_job_is_400(worker: Worker, body: bytes) -> None:
    answer = worker.request("POST", "/cancel", body)
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")


def test_jobs_run_one_at_a_time_in_arrival_order(worker: Worker) -> None:
    streams = []
    for number in range(4):
        streams.append(worker.stream(job_id=f"order-{number}", max_tokens=300))
        if number == 0:
            streams[0].until_token(0)
        while worker.health()["waiting_jobs"] < number:
            time.sleep(0.002)
    for stream in streams:
        stream.all()
    worker.event("execute_end", job_id="order-3")
    order = [
        (line["event"], line["job_id"]) for line in worker.lines if str(line.get("job_id", "")).startswith("order-")
    ]
    assert order == [(event, f"order-{n}") for n in range(4) for event in ("execute_start", "execute_end")]
    assert len({stream.text for stream in streams}) == 1


def test_a_waiting_job_can_be_cancelled_and_never_generates(worker: Worker) -> None:
    first = worker.stream(job_id="first", **SLOW)
    first.until_token(0)
    second = worker.stream(job_id="second", max_tokens=5)
    while worker.health()["waiting_jobs"] < 1:
        time.sleep(0.002)
    cancel(worker, "second")
    assert [name for name, _ in second.all()] == ["started", "error"]
    assert second.last["code"] == "CANCELLED"
    finish(worker, first)
    assert worker.event("execute_end", job_id="second")["text_length"] == 0


def test_a_client_that_leaves_frees_the_worker(worker: Worker) -> None:
    stream = worker.stream(job_id="leaver", **SLOW)
    stream.until_token(10)
    stream.reset()
    before = time.perf_counter()
    worker.run(max_tokens=1)
    assert time.perf_counter() - before < 0.4  # the abandoned job had more than that to go
    assert worker.event("execute_end", job_id="leaver")["outcome"] == "disconnected"


def test_a_waiting_client_that_leaves_is_forgotten(worker: Worker) -> None:
    first = worker.stream(job_id="stays", **SLOW)
    first.until_token(0)
    second = worker.stream(job_id="goes")
    while worker.health()["waiting_jobs"] < 1:
        time.sleep(0.002)
    second.reset()
    worker.event("execute_end", job_id="goes", outcome="disconnected")
    finish(worker, first)


def test_an_active_job_id_is_taken_a_finished_one_is_free(worker: Worker) -> None:
    first = worker.stream(job_id="twin", **SLOW)
    first.until_token(0)
    answer = worker.request("POST", "/execute", {"job_id": "twin", "prompt": "*"})
    assert answer.status == 400
    assert answer.json["errors"][0]["field"] == "job_id"
    finish(worker, first)
    assert worker.run(job_id="twin", max_tokens=2).last["tokens_out"] == 2


def test_health_answers_while_a_job_runs(worker: Worker) -> None:
    stream = worker.stream(**SLOW)
    stream.until_token(0)
    times = []
    for _ in range(30):
        before = time.perf_counter()
        assert worker.health()["state"] == "busy"
        times.append(time.perf_counter() - before)
    assert sorted(times)[15] < 0.05
    finish(worker, stream)


def test_beyond_the_waiting_line_is_503(launch: Any) -> None:
    worker = launch("--queue-depth", "1")
    streams = [worker.stream(job_id="runs", **SLOW)]
    streams[0].until_token(0)
    streams.append(worker.stream(job_id="waits", max_tokens=2))
    while worker.health()["waiting_jobs"] < 1:
        time.sleep(0.002)
    answer = worker.request("POST", "/execute", {"job_id": "too-many", "prompt": "*"})
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json["retriable"] is True
    cancel(worker, "runs")
    assert [stream.all()[-1][0] for stream in streams] == ["error", "end"]


def test_a_job_that_takes_too_long_is_ended(launch: Any) -> None:
    worker = launch("--inference-timeout-sec", "0.2")
    stream = worker.run(**SLOW)
    assert stream.last["code"] == "INFERENCE_TIMEOUT"
    assert worker.event("execute_end")["outcome"] == "timeout"
    assert worker.run(max_tokens=2).last["tokens_out"] == 2


def test_out_of_memory_in_a_job_spares_the_worker(launch: Any) -> None:
    worker = launch("--kv-cache-size-mb", "1")
    baseline = worker.health()["vram_bytes_used"]
    stream = worker.run("a" * 6000, max_tokens=2048)  # 8047 positions of 256 bytes: 2 MiB
    assert [name for name, _ in stream.events] == ["started", "error"]
    assert stream.last["code"] == "VRAM_OOM"
    narrated = worker.event("error", code="VRAM_OOM")
    assert narrated["bytes_needed"] > narrated["bytes_available"] == 1 << 20
    health = worker.health()
    assert (health["status"], health["vram_bytes_used"]) == ("unhealthy", baseline)
    assert worker.run("Hello", max_tokens=10).last["tokens_out"] == 10
    assert worker.health()["status"] == "healthy"


def test_a_client_that_does_not_read_holds_up_nobody_for_long(launch: Any) -> None:
    worker = launch("--inference-timeout-sec", "1")
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    lazy.connect(("127.0.0.1", worker.port))
    body = json.dumps({"job_id": "lazy", "prompt": "*", "max_tokens": 2048}).encode()
    head = "POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    lazy.sendall(head.encode() + body)
    worker.event("execute_start", job_id="lazy")
    before = time.perf_counter()
    assert worker.run(max_tokens=2).last["tokens_out"] == 2
    assert time.perf_counter() - before < 5
    lazy.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_ends_at_once(launch: Any, number: int) -> None:
    worker = launch()
    before = time.perf_counter()
    assert worker.end(number) == 0
    assert time.perf_counter() - before < 2
    assert worker.errors == ""
    assert [line.get("phase") for line in worker.lines if line["event"] == "shutdown"] == ["draining", "complete"]


def test_a_busy_worker_finishes_its_job_and_takes_no_other(launch: Any) -> None:
    worker = launch()
    active = worker.stream(job_id="active", **SLOW)
    active.until_token(0)
    waiting = worker.stream(job_id="waiting")
    while worker.health()["waiting_jobs"] < 1:
        time.sleep(0.002)
    os.kill(worker.process.pid, signal.SIGTERM)
    worker.event("shutdown", phase="draining")
    answer = worker.request("POST", "/execute", {"job_id": "late", "prompt": "*"})
    assert answer.status == 503
    assert answer.json["retriable"] is True
    assert [name for name, _ in waiting.all()] == ["started", "error"]
    assert active.all()[-1][0] == "end"
    assert worker.exit() == 0


def test_shutdown_by_http(launch: Any) -> None:
    worker = launch()
    assert worker.request("POST", "/shutdown", b"[1").status == 400
    assert worker.health()["status"] == "healthy"
    active = worker.stream(**SLOW)
    active.until_token(0)
    assert worker.request("POST", "/shutdown", b"{}").status == 202
    assert worker.health()["state"] == "draining"
    assert active.all()[-1][0] == "end"
    assert worker.exit() == 0


def test_a_second_signal_does_not_wait(launch: Any) -> None:
    worker = launch()
    active = worker.stream(**SLOW)
    active.until_token(0)
    os.kill(worker.process.pid, signal.SIGTERM)
    worker.event("shutdown", phase="draining")
    os.kill(worker.process.pid, signal.SIGTERM)
    active.all()
    assert active.last["code"] == "CANCELLED"
    assert worker.exit() == 0


def test_two_workers_live_and_die_apart(launch: Any) -> None:
    one, other = launch(), launch()
    one.process.kill()
    one.process.wait()
    assert other.run(max_tokens=5).last["tokens_out"] == 5


def test_the_model_file_may_vanish(launch: Any, script: Any, tmp_path: Any) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(script.path.read_bytes())
    worker = launch(model=copy)
    before = worker.run(max_tokens=20).text
    copy.unlink()
    assert worker.run(max_tokens=20).text == before


def test_a_closed_log_does_not_end_the_worker(script: Any) -> None:
    port = free_port()
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        command(script.path, port), cwd=ROOT, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        narrate_until(process, "ready")
        process.stdout.close()
        for _ in range(2):
            stream = Stream(port, {"job_id": "a", "prompt": "*", "max_tokens": 2})
            assert stream.all()[-1][1]["tokens_out"] == 2
        process.terminate()
        assert process.communicate(timeout=10)[1] == b""
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_residency_is_checked_and_narrated(launch: Any) -> None:
    worker = launch("--residency-interval-sec", "0.05")
    check = worker.event("residency_check")
    assert check["resident"] is False
    assert worker.health()["status"] == "healthy"  # a CPU device never claimed residency


class Receiver(http.server.BaseHTTPRequestHandler):
    received: list[dict[str, Any]]
    answer = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        port = int(body["uri"].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=5):  # it listens already
            type(self).received.append(body | {"path": self.path})
        self.send_response(type(self).answer)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's signature
        pass


@pytest.mark.parametrize(
    ("status", "outcome", "host"),
    [(200, "delivered", "127.0.0.1"), (500, "failed", "127.0.0.1"), (204, "delivered", "0.0.0.0")],
)
def test_the_callback_comes_once_the_socket_listens(launch: Any, status: int, outcome: str, host: str) -> None:
    handler = type("Handler", (Receiver,), {"received": [], "answer": status})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        worker = launch("--callback-url", f"http://127.0.0.1:{server.server_port}/ready?x=1", "--host", host)
        narrated = worker.event("callback")
        server.shutdown()
        thread.join()
    assert narrated["outcome"] == outcome
    assert len(handler.received) == 1  # type: ignore[attr-defined]  # the test's own handler
    body = handler.received[0]  # type: ignore[attr-defined]  # the test's own handler
    assert body["path"] == "/ready?x=1"
    assert body["uri"] == f"http://127.0.0.1:{worker.port}"
    assert body["vram_bytes"] == worker.health()["vram_bytes_used"]
    assert body["worker_id"] == worker.health()["worker_id"]
    assert worker.names().index("ready") < worker.names().index("callback")


def test_a_callback_that_nobody_takes_is_no_failure(launch: Any) -> None:
    worker = launch("--callback-url", "http://127.0.0.1:1/")
    assert worker.event("callback")["outcome"] == "failed"
    assert worker.run(max_tokens=1).last["tokens_out"] == 1
