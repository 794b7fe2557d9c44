"""Bad input on a real socket: a 4xx with JSON, never a 5xx, and the next job is unaffected."""

from __future__ import annotations

import http.client
import json
import socket
import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from worker_process import Answer, Worker


def check(answer: Answer, status: int) -> None:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["code"] == "INVALID_REQUEST"
    assert answer.json["retriable"] is False
    assert answer.json["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"job_id":"a","job_id":"a","prompt":"*"}',
        b'{"job_id":"a","prompt":"*","temperature":NaN}',
        b'{"job_id":"a","prompt":"\\ud800"}',
        b'{"job_id":"a","prompt":"*","x":"\\udfff"}',
        b'{"job_id":"a","prompt":"\xff"}',
        b'\xef\xbb\xbf{"job_id":"a","prompt":"*"}',
        b"[" * 10_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"job_id":"a","prompt":"*","seed":' + b"1" * 5000 + b"}",
        b'{"job_id":"a","prompt":"*","temperature":1e999}',
        json.dumps({"job_id": "a", "prompt": "x" * 1_000_000}).encode(),
        json.dumps({"job_id": "a", "prompt": "*", "stop": ["y" * 1_000_000]}).encode(),
    ],
)
def test_bodies(worker: Worker, body: bytes) -> None:
    check(worker.request("POST", "/execute", body), 400)
    assert worker.run(max_tokens=1).last["tokens_out"] == 1


def test_a_large_body_of_a_legal_request_is_fine(worker: Worker) -> None:
    stream = worker.run(max_tokens=1, padding="z" * 1_000_000)
    assert stream.last["tokens_out"] == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversized_body_is_413(worker: Worker, chunked: bool) -> None:
    body = b'{"job_id":"' + b"a" * (5 << 20) + b'"}'
    with socket.create_connection(("127.0.0.1", worker.port), timeout=20) as connection:
        head = b"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        if chunked:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
        else:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 413 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize("path", ["/execute", "/cancel"])
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
def test_wrong_content_type(worker: Worker, path: str, kind: str) -> None:
    check(worker.request("POST", path, b'{"job_id":"a","prompt":"*"}', {"Content-Type": kind}), 415)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/executes", "/execute/", "/v1/jobs", "/cancel/a", "/health/x", "/%C3%A9", "//execute", "/EXECUTE"),
        *("/execute%0A", "/health%0A", "/docs%0A", "/execute%00", "/execute%20", "/docs/oauth2-redirect", "/redoc"),
    ],
)
def test_unknown_path(worker: Worker, path: str) -> None:
    for method in ("POST", "GET"):
        check(worker.request(method, path, b"{}"), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *((method, "/execute", "POST") for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")),
        ("POST", "/health", "GET, HEAD"),
        ("GET", "/cancel", "POST"),
        ("GET", "/shutdown", "POST"),
        ("DELETE", "/metrics", "GET, HEAD"),
    ],
)
def test_wrong_method(worker: Worker, method: str, path: str, allowed: str) -> None:
    answer = worker.request(method, path)
    check(answer, 405)
    assert answer.headers["allow"] == allowed


def test_head_of_health(worker: Worker) -> None:
    answer = worker.request("HEAD", "/health")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 100


@pytest.mark.parametrize(
    "junk", [b"BREW /execute HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET\r\n\r\n"]
)
def test_what_is_no_http_gets_json_all_the_same(worker: Worker, junk: bytes) -> None:
    with socket.create_connection(("127.0.0.1", worker.port), timeout=20) as connection:
        connection.sendall(junk)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 400 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["code"] == "INVALID_REQUEST"


def test_a_connection_survives_a_refused_body(worker: Worker) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=20)
    connection.connect()
    own = connection.sock.getsockname()
    for path, status in (("/nowhere", 404), ("/health", 405), ("/execute", 415)):
        connection.request("POST", path, b"x" * 1_000_000)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, True)
    assert connection.sock.getsockname() == own
    connection.close()


def test_a_client_that_leaves_in_the_middle_of_its_body(worker: Worker) -> None:
    with socket.create_connection(("127.0.0.1", worker.port), timeout=20) as connection:
        connection.sendall(b'POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"job_id":')
    assert worker.run(max_tokens=1).last["tokens_out"] == 1


def test_correlation(worker: Worker) -> None:
    given = str(uuid.uuid4())
    assert worker.request("GET", "/health", headers={"X-Correlation-ID": given}).headers["x-correlation-id"] == given
    for wrong in ("", "abc", given + "0"):
        made = worker.request("GET", "/nowhere", headers={"X-Correlation-ID": wrong}).headers["x-correlation-id"]
        assert made != wrong
        uuid.UUID(made)
    stream = worker.stream(headers={"X-Correlation-ID": given}, max_tokens=1, job_id="correlated")
    assert stream.begin().headers["x-correlation-id"] == given
    stream.all()
    assert worker.event("execute_end", job_id="correlated")["correlation_id"] == given


@pytest.mark.parametrize(
    "deadline", ["2020-01-01T00:00:00Z", "1600000000", "4102444800000", "tomorrow", "NaN", "1e308"]
)
def test_a_deadline_changes_nothing(worker: Worker, deadline: str) -> None:
    stream = worker.stream(headers={"X-Deadline": deadline}, max_tokens=3, job_id=f"deadline-{deadline}")
    assert stream.all()[-1][1]["tokens_out"] == 3
    line = worker.event("execute_start", job_id=f"deadline-{deadline}")
    assert ("deadline_remaining_s" in line) == (deadline[0] in "1246" and deadline != "1e308")
