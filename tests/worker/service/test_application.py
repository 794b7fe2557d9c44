"""The application without a socket: its errors, and that it tells nobody what it sees."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, get_args

import pytest
from application import Rig
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from httpx2 import ASGITransport, AsyncClient
from m0_worker.errors import Code
from m0_worker.http.app import NO_TELEMETRY
from m0_worker.http.errors import StableCode

if TYPE_CHECKING:
    from starlette.types import Message

CORRELATION = "0f9f4c5e-5d0a-4c55-9a53-0d6f1f1c2a90"
JOB = {"job_id": "j", "prompt": "a secret", "max_tokens": 3}


def test_an_unexpected_error_is_a_500_with_the_requests_id_and_a_line_in_the_log() -> None:
    rig = Rig()

    def fail() -> dict[str, object]:
        raise KeyError("a secret")

    rig.service.health = fail  # type: ignore[method-assign]  # no request can make it fail
    answer = rig.request("GET", "/health", headers={"X-Correlation-ID": CORRELATION})
    assert answer.status_code == 500
    assert answer.headers["x-correlation-id"] == CORRELATION
    assert answer.json() == {"code": "INTERNAL", "message": "the worker failed unexpectedly", "retriable": True}
    assert [event["message"] for event in rig.events()] == ["unexpected KeyError in HTTP"]


def test_a_failure_of_ours_in_reading_a_body_is_not_called_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_body: bytes) -> dict[str, object]:
        raise KeyError("a secret")

    monkeypatch.setattr("m0_worker.http.body.parse_object", fail)
    rig = Rig()
    assert rig.request("POST", "/execute", json=JOB).json()["code"] == "INTERNAL"
    assert [event["message"] for event in rig.events()] == ["unexpected KeyError in HTTP"]


def test_a_response_that_fails_half_way_is_narrated_and_left_to_the_server() -> None:
    rig = Rig()

    async def ask() -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                raise OSError("gone")

        scope = {"type": "http", "method": "GET", "path": "/health", "headers": [], "query_string": b""}
        await rig.application(scope, receive, send)

    with pytest.raises(OSError, match="gone"):
        asyncio.run(ask())
    assert [event["message"] for event in rig.events()] == ["unexpected OSError in HTTP"]


@pytest.mark.parametrize("path", ["/execute", "/cancel", "/shutdown"])
def test_a_body_that_does_not_arrive_is_408_and_ends_the_connection(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m0_worker.http.body._BODY_TIMEOUT_S", 0.01)
    sent: list[Message] = []

    async def ask() -> None:
        async def receive() -> Message:
            await asyncio.sleep(10)
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
        await Rig().application(scope, receive, send)

    asyncio.run(ask())
    assert sent[0]["status"] == 408
    headers = dict(sent[0]["headers"])
    assert headers[b"connection"] == b"close"
    uuid.UUID(headers[b"x-correlation-id"].decode())
    assert b'"field":"body","constraint":"complete"' in sent[1]["body"]


def test_a_client_that_leaves_with_its_body_is_no_rejected_request() -> None:
    rig = Rig()

    async def ask() -> None:
        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(_message: Message) -> None:
            pass

        scope = {"type": "http", "method": "POST", "path": "/execute", "headers": [], "query_string": b""}
        await rig.application(scope, receive, send)

    asyncio.run(ask())
    assert rig.events() == []
    assert 'worker_requests_total{outcome="rejected"} 0.0' in rig.request("GET", "/metrics").text


def test_every_answer_carries_the_requests_id() -> None:
    rig = Rig()
    for method, path in (
        ("GET", "/health"),
        ("POST", "/health"),
        ("GET", "/no"),
        ("POST", "/execute"),
        ("GET", "/docs"),
    ):
        answer = rig.request(method, path, headers={"X-Correlation-ID": CORRELATION})
        assert answer.headers.get_list("x-correlation-id") == [CORRELATION]


@pytest.mark.parametrize("path", ["/health", "/metrics", "/openapi.json", "/docs"])
def test_head_is_get_without_its_body(path: str) -> None:
    rig = Rig()
    head, get = rig.request("HEAD", path), rig.request("GET", path)
    assert (head.status_code, get.status_code) == (200, 200)
    own = {"x-correlation-id": "", "content-length": ""}  # an uptime may have grown by a digit
    assert {**head.headers, **own} == {**get.headers, **own}
    assert int(head.headers["content-length"]) > 100


def test_the_stable_codes_are_those_of_the_worker() -> None:
    assert set(get_args(StableCode)) == {code.name for code in Code}


class Spy:
    """A telemetry provider that takes note of all that is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return lambda *_, **__: self


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    provider = Spy()
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    for place in ("trace.get_tracer_provider", "metrics.get_meter_provider", "_logs.get_logger_provider"):
        monkeypatch.setattr(f"opentelemetry.{place}", lambda: provider)
    return provider


def test_no_telemetry_provider_hears_of_a_request(spy: Spy) -> None:
    rig = Rig()
    assert b"event: end" in rig.request("POST", "/execute", json=JOB).content
    assert rig.request("POST", "/execute", json={**JOB, "top_p": 7}).status_code == 400
    assert rig.request("GET", "/nowhere").status_code == 404
    rig.service.health = None  # type: ignore[assignment, method-assign]  # no request can make it fail
    assert rig.request("GET", "/health").status_code == 500
    assert spy.asked == []


def test_fastapi_would_tell_if_it_were_not_told_otherwise(spy: Spy) -> None:
    async def ask() -> None:
        async with AsyncClient(transport=ASGITransport(FastAPI()), base_url="http://other") as client:
            await client.get("/")

    asyncio.run(ask())
    assert spy.asked


def test_every_switch_of_the_telemetry_is_off() -> None:
    providers = {"tracer_provider", "meter_provider", "logger_provider"}
    assert set(TelemetryConfig.__annotations__) == set(NO_TELEMETRY) | providers
    assert [switch for switch, value in NO_TELEMETRY.items() if value is True] == []
    assert NO_TELEMETRY["exclude"] is not None
    assert NO_TELEMETRY["exclude"]({}) is True
