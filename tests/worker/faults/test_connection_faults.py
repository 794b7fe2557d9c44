"""Connections that are slow, silent, endless, too many, or of somebody else."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from fault_table import fault
from wire import HEALTH, JSON, ask, connect, eventually, job, post, refused, served, status, to_the_end

if TYPE_CHECKING:
    import socket

    from worker_process import Worker


def health_within(worker: Worker, seconds: float) -> None:
    before = time.perf_counter()
    assert worker.health()["status"] == "healthy"
    assert time.perf_counter() - before < seconds


@fault("connection", "a header of 64 MB", "431 within a second, without the CPU time of its length; /health meanwhile")
def test_a_header_of_64_megabytes(worker: Worker) -> None:
    process = psutil.Process(worker.process.pid)
    spent = sum(process.cpu_times()[:2])
    with connect(worker.port) as connection:
        try:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nx: ")
            for _ in range(1024):
                connection.sendall(b"x" * 65536)
        except ConnectionError:  # refused long before its end
            pass
        answer = to_the_end(connection)
    assert sum(process.cpu_times()[:2]) - spent < 1
    assert status(answer) == 431
    health_within(worker, 1)


@fault("connection", "more than 32 KiB of headers, or more than 100", "431")
@pytest.mark.parametrize("headers", [b"x: %s\r\n" % (b"y" * 33_000), b"x: y\r\n" * 101, b"a: " + b"z" * 400_000])
def test_a_head_that_is_too_large(worker: Worker, headers: bytes) -> None:
    answer = ask(worker.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
    assert "32768 bytes" in refused(answer, 431)["message"]


def test_a_head_of_the_size_that_is_allowed(worker: Worker) -> None:
    for headers in (b"x: %s\r\n" % (b"y" * 32_000), b"x: y\r\n" * 98):
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + b"\r\n"
        assert status(ask(worker.port, request)) == 200


@fault("connection", "trailers after a chunked body that are too large", "431")
def test_trailers_that_are_too_large(worker: Worker) -> None:
    head = b"POST /cancel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
    body = b'\r\n\r\ne\r\n{"job_id":"a"}\r\n0\r\n' + b"".join(b"x%d: y\r\n" % n for n in range(500)) + b"\r\n"
    refused(ask(worker.port, head + body), 431)
    health_within(worker, 1)


@fault("connection", "a target of more than 8 KiB", "414")
def test_a_target_that_is_too_long(worker: Worker) -> None:
    refused(ask(worker.port, b"GET /health?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 9000)), 414)


@fault("connection", "what is no HTTP/1.1", "400, and the connection ends")
@pytest.mark.parametrize("garbage", [b"\0" * 100, b"hello\r\n\r\n", b"\x16\x03\x01\x02\0", b"GET / HTTP/9.9\r\n\r\n"])
def test_garbage(worker: Worker, garbage: bytes) -> None:
    refused(ask(worker.port, garbage), 400)


@fault("connection", "HTTP/1.1 with no Host, or with two", "400")
@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: localhost\r\n"])
def test_not_exactly_one_host(worker: Worker, hosts: bytes) -> None:
    refused(ask(worker.port, b"GET /health HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n"), 400)


@fault("connection", "a head that does not come to its end within 10 s", "408")
def test_a_slow_head() -> None:
    with served(head_s=0.3) as port, connect(port) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nx: ")
        before = time.perf_counter()
        for _ in range(100):
            try:
                connection.sendall(b"y")
            except ConnectionError:
                break
            time.sleep(0.02)
        assert "head" in refused(to_the_end(connection).removesuffix(b"!reset"), 408)["message"]
        assert time.perf_counter() - before < 4


@fault(
    "connection", "a connection without a request for 30 s", "408; after an answered request it is closed in silence"
)
def test_a_silent_connection() -> None:
    with served(idle_s=0.3) as port:
        with connect(port) as connection:
            refused(to_the_end(connection), 408)
        with connect(port) as connection:
            connection.sendall(HEALTH)
            answer = to_the_end(connection)
            assert status(answer) == 200
            assert answer.count(b"HTTP/1.1 ") == 1


@fault("connection", "a body that nobody asked for and that never ends", "the connection is ended after 35 s")
def test_a_body_that_nobody_asked_for() -> None:
    with served(body_s=0.3) as port, connect(port) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        assert status(to_the_end(connection)) == 200


@fault("connection", "an answer that its client does not read for 30 s", "the connection is ended, a job with it")
def test_an_answer_that_is_not_read() -> None:
    with served(stall_s=0.5, script=b"x" * 90) as port, connect(port, small=True) as lazy:
        lazy.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300)
        time.sleep(3)
        lazy.setblocking(False)
        size, end = 0, time.monotonic() + 10
        while time.monotonic() < end:
            try:
                chunk = lazy.recv(1 << 20)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            except ConnectionError:
                break
            if not chunk:
                break
            size += len(chunk)
        else:
            pytest.fail("the connection is still there")
        assert size < 4_000_000  # 300 answers have more


@fault("connection", "1,000 idle connections, 256 descriptors", "the longest idle ones go; /health and /cancel answer")
def test_idle_connections_beyond_the_descriptors(launch: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    worker = launch(wait=False)
    resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (256, 256))
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    crowd: list[socket.socket] = []
    try:
        worker.event("ready")
        for _ in range(1000):
            crowd.append(connect(worker.port))
            if len(crowd) % 100 == 0:
                health_within(worker, 1)
        assert worker.request("POST", "/cancel", {"job_id": "a"}).status == 202
        assert psutil.Process(worker.process.pid).num_fds() < 256
        ended = [each for each in crowd if _has_ended(each)]
        assert len(ended) > 700
        assert worker.run(max_tokens=3).last["tokens_out"] == 3
    finally:
        for each in crowd:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert worker.end() == 0


def _has_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(4096).startswith(b"HTTP/1.1 503") or True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@fault(
    "connection",
    "as many connections at work as may be open (1,024, or what the descriptors allow)",
    "a reserve of 32 answers /health, /cancel, /metrics and /shutdown; /execute gets 503, and so does who comes then",
)
def test_a_crowd_at_work() -> None:
    half = b"POST /cancel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    with served(connections=4, reserve=2) as port:
        crowd = [connect(port) for _ in range(4)]
        for each in crowd:
            each.sendall(half)
        time.sleep(0.2)
        assert _asked(port) == 200
        assert refused(ask(port, post("/execute", job(), JSON)), 503)["retriable"] is True
        assert status(ask(port, post("/cancel", b'{"job_id":"a"}', JSON))) == 202
        for _ in range(2):
            crowd.append(connect(port))
            crowd[-1].sendall(half)
            time.sleep(0.2)
        with connect(port) as late:
            refused(to_the_end(late), 503)
        for each in crowd:
            each.close()
        eventually(lambda: _asked(port) == 200)


def _asked(port: int) -> int:
    return status(ask(port, HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))


@fault(
    "connection", "half-sent bodies of more than 64 MiB together", "503 for the next large body; /cancel is let through"
)
def test_bodies_that_fill_the_memory(launch: Any) -> None:
    worker = launch()
    head = post("/execute", b"", JSON).replace(b"Length: 0", b"Length: 4000000")
    crowd = []
    for _ in range(17):
        crowd.append(connect(worker.port))
        crowd[-1].sendall(head + b"x" * 3_900_000)
    time.sleep(0.3)
    answer = ask(worker.port, head + b"x" * 4_000_000)
    assert refused(answer, 503)["retriable"] is True
    assert worker.request("POST", "/cancel", {"job_id": "a"}).status == 202
    for each in crowd:
        each.close()
    eventually(lambda: status(ask(worker.port, head + b"x" * 4_000_000)) == 400)


@fault("connection", "garbage behind a job's request on the same connection", "the job's stream is whole; then the end")
def test_garbage_behind_a_request(worker: Worker) -> None:
    body = job("garbage", max_tokens=400, temperature=0)
    request = post("/execute", body, JSON).replace(b"Connection: close\r\n", b"")
    with connect(worker.port) as connection:
        connection.sendall(request)
        worker.event("execute_start", job_id="garbage")
        connection.sendall(b"\0garbage\r\n\r\n")
        received = to_the_end(connection)
    assert received.count(b"HTTP/1.1 ") == 1
    assert b'"tokens_out":400' in received


@fault("connection", "a thousand requests at once on one connection", "each is answered, in order")
def test_pipelined_requests(worker: Worker) -> None:
    last = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer = ask(worker.port, HEALTH * 999 + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 1000
