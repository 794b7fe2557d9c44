"""Requests of foreign pages, and requests that are none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fault_table import fault
from wire import JSON, ask, connect, job, post, refused, status

if TYPE_CHECKING:
    from worker_process import Worker


@fault("request", "Host of another name, worker on a loopback address", "403, unless --allowed-host names it")
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]", "10.0.0.1", ""])
def test_a_foreign_host(worker: Worker, host: str) -> None:
    for request in (
        f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode(),
        post("/shutdown", b"{}", JSON, f"Host: {host}"),
        post("/execute", job(), JSON, f"Host: {host}"),
    ):
        assert refused(ask(worker.port, request), 403)["errors"][0]["field"] == "host"
    assert worker.health()["state"] == "idle"


@fault("request", "Origin of another site, or Sec-Fetch-Site: cross-site", "403, unless --allowed-host names it")
@pytest.mark.parametrize(
    "header",
    ["Origin: http://evil.example", "Origin: null", "Origin: http://localhost:3000", "Sec-Fetch-Site: cross-site"],
)
def test_a_foreign_origin(worker: Worker, header: str) -> None:
    for path, body in (("/shutdown", b"{}"), ("/execute", job()), ("/cancel", b'{"job_id":"a"}')):
        refused(ask(worker.port, post(path, body, JSON, header)), 403)
    assert worker.health()["state"] == "idle"


def test_allowed_hosts_and_own_pages_are_served(launch: Any) -> None:
    worker = launch("--allowed-host", "worker.lan", "--allowed-host", "Other.lan")
    for headers in (
        ["Host: worker.lan:99"],
        ["Host: OTHER.lan"],
        ["Host: localhost:1"],
        ["Host: [::1]"],
        ["Host: worker.lan", "Origin: https://other.lan"],
        [f"Host: localhost:{worker.port}", f"Origin: http://localhost:{worker.port}"],
    ):
        assert status(ask(worker.port, post("/cancel", b'{"job_id":"a"}', JSON, *headers))) == 202, headers
    assert status(ask(worker.port, b"GET /health HTTP/1.0\r\n\r\n")) == 200
    refused(ask(worker.port, post("/cancel", b'{"job_id":"a"}', JSON, "Host: third.lan")), 403)


def test_on_all_interfaces_every_name_is_served(launch: Any) -> None:
    worker = launch("--host", "0.0.0.0")
    assert status(ask(worker.port, post("/cancel", b'{"job_id":"a"}', JSON, "Host: some.name"))) == 202


@fault("request", "POST without JSON's content type", "415: a page of another site can send no other without asking")
@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_is_not_called_json(worker: Worker, kind: str | None) -> None:
    headers = [] if kind is None else [f"Content-Type: {kind}"]
    for path, body in (("/shutdown", b"{}"), ("/execute", job()), ("/cancel", b'{"job_id":"a"}')):
        refused(ask(worker.port, post(path, body, *headers)), 415)
    assert worker.health()["state"] == "idle"


@fault("request", "POST /shutdown without a body", "400: the end of the worker is asked for with `{}`")
def test_a_shutdown_without_a_body(worker: Worker) -> None:
    refused(ask(worker.port, post("/shutdown", b"", JSON)), 400)
    refused(ask(worker.port, post("/shutdown", b"")), 400)
    assert worker.health()["state"] == "idle"


@fault("request", "a job_id of more than 1,024 characters", "400, and the log holds none of it")
def test_a_job_id_that_is_too_long(worker: Worker) -> None:
    before = len(worker.raw)
    for path in ("/execute", "/cancel"):
        document = refused(ask(worker.port, post(path, job("é" * 500_000), JSON)), 400)
        assert [error["field"] for error in document["errors"]] == ["job_id"]
        assert len(json.dumps(document)) < 1000
    assert len(worker.raw) - before < 2000
    assert worker.run(job_id="é" * 1024, max_tokens=1).last["tokens_out"] == 1


@fault("request", "a body of more than 4 MiB", "413")
def test_a_body_that_is_too_long(worker: Worker) -> None:
    refused(ask(worker.port, post("/execute", b" " * 4_300_000, JSON)), 413)


@fault("request", "JSON nested 100,000 deep, NaN, a name twice, half a character", "400, naming what is wrong")
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"seed":NaN}', b'{"a":1,"a":2}', b'{"job_id":"\\ud800"}', b"\xff"])
def test_json_that_is_none(worker: Worker, body: bytes) -> None:
    assert refused(ask(worker.port, post("/execute", body, JSON)), 400)["errors"]


@fault("request", "a client that closes before its request is complete", "nothing: the request never was")
def test_half_a_request(worker: Worker) -> None:
    with connect(worker.port) as connection:
        connection.sendall(post("/execute", job("never-complete"), JSON)[:-5])
    assert worker.health()["status"] == "healthy"
    assert "never-complete" not in worker.raw
