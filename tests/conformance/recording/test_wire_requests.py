"""Requests as httpx2 forms them, byte for byte: workers, recordings and stored repros know them in this form."""

from __future__ import annotations

import subprocess
import sys

import pytest
from m0_conformance.recording.request import Request, json_request
from m0_conformance.recording.transport import form, wire_bytes

HOST = "127.0.0.1:8080"
JSON = ("Content-Type", "application/json")
END = b"Connection: close\r\n\r\n"
JSON_HEAD = b" HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"

FORMS: dict[str, tuple[Request, bytes]] = {
    "get": (Request("GET", "/health"), b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" + END),
    "json": (
        json_request("POST", "/cancel", {"job_id": "j-1"}),
        b"POST /cancel" + JSON_HEAD + b"Content-Length: 17\r\n" + END + b'{"job_id": "j-1"}',
    ),
    "lone surrogate": (
        json_request("POST", "/execute", {"prompt": "\ud800"}),
        b"POST /execute" + JSON_HEAD + b"Content-Length: 20\r\n" + END + b'{"prompt": "\\ud800"}',
    ),
    "own fields, their order and case": (
        json_request("POST", "/execute", {}, [("X-Deadline", "soon"), ("x-correlation-id", "6d3c1c3e"), ("X-A", "")]),
        b"POST /execute" + JSON_HEAD
        + b"X-Deadline: soon\r\nx-correlation-id: 6d3c1c3e\r\nX-A: \r\nContent-Length: 2\r\n" + END + b"{}",
    ),
    "a field twice": (
        Request("GET", "/", [("A", "1"), ("a", "2"), ("A", "1")]),
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nA: 1\r\na: 2\r\nA: 1\r\n" + END,
    ),
    "no type": (
        Request("POST", "/execute", body=b"\xff\x00{"),
        b"POST /execute HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 3\r\n" + END + b"\xff\x00{",
    ),
    "empty body": (Request("POST", "/execute", [JSON]), b"POST /execute" + JSON_HEAD + b"Content-Length: 0\r\n" + END),
    "empty put": (
        Request("PUT", "/cancel"), b"PUT /cancel HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 0\r\n" + END,
    ),
    "delete": (Request("DELETE", "/health"), b"DELETE /health HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" + END),
    "delete with a body": (
        Request("DELETE", "/x", body=b"1"),
        b"DELETE /x HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 1\r\n" + END + b"1",
    ),
    "head": (Request("HEAD", "/health"), b"HEAD /health HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" + END),
    "lower-case method": (Request("get", "/"), b"get / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" + END),
    "own host, length and connection": (
        Request("POST", "/", [("host", "a"), ("content-length", "2"), ("connection", "keep-alive")], b"{}"),
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n{}",
    ),
    "query": (
        Request("GET", "/health?a=1&b=%41+c"), b"GET /health?a=1&b=%41+c HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" + END,
    ),
    "dots and doubled slashes": (
        Request("GET", "/a/./../b//c/%2e%2E?"), b"GET /a/./../b//c/%2e%2E? HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" + END,
    ),
    "two slashes first": (Request("GET", "//x"), b"GET //x HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" + END),
    "no path": (Request("OPTIONS", "*"), b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" + END),
    "Latin-1": (
        Request("GET", "/", [("X-Name", "caf\xe9")]),
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nX-Name: caf\xe9\r\n" + END,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_request_has_exactly_these_bytes(name: str) -> None:
    request, expected = FORMS[name]
    assert wire_bytes(form(request, HOST)) == expected


@pytest.mark.parametrize("host", ["127.0.0.1:80", "[::1]:8080", "[2001:db8::1]:80", "worker-1:1", "a_b.example:65535"])
def test_the_host_is_named_with_its_port_always(host: str) -> None:
    assert wire_bytes(form(Request("GET", "/"), host)) == b"GET / HTTP/1.1\r\nHost: %s\r\n" % host.encode() + END


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "/a b"),
        Request("GET", "/\0"),
        Request("GET", "/caf\xe9"),
        Request("G\xcbT", "/"),
        Request("GE T", "/"),
        Request("GET", "/", [("A b", "c")]),
        Request("GET", "/", [("A", "b\r\nC: d")]),
        Request("GET", "/", [("A", "\u4f60")]),
        Request("POST", "/", [("Content-Length", "3")], b"{}"),
        Request("POST", "/", [("Content-Length", "x")], b"{}"),
    ],
)
def test_what_is_not_well_formed_is_refused(request_: Request) -> None:
    with pytest.raises(ValueError, match="raw"):
        wire_bytes(form(request_, HOST))


@pytest.mark.parametrize("module", ["__main__", "run.rejudge", "report.document", "saboteur.__main__", "run.situation"])
def test_what_opens_no_connection_does_not_load_httpx2(module: str) -> None:
    code = (
        f"import sys, m0_conformance.{module}; print([n for n in ('httpx2', 'httpcore2', 'h11') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
