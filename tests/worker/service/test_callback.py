"""The readiness callback against receivers that misbehave."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from application import CONFIG
from m0_worker.callback import report_ready
from m0_worker.narration import Narrator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def report(url: str, host: str = "127.0.0.1") -> dict[str, Any]:
    """What is narrated of one callback."""
    log = io.StringIO()
    asyncio.run(_report(url, host, log))
    (line,) = log.getvalue().splitlines()
    narrated: dict[str, Any] = json.loads(line)
    return narrated


async def _report(url: str, host: str, log: io.StringIO) -> None:
    config = dataclasses.replace(CONFIG, callback_url=url, host=host)
    await report_ready(config, 1, Narrator(config, log))


async def _answered(respond: Callable[[asyncio.StreamWriter], Awaitable[None]], user: str = "") -> tuple[bytes, str]:
    """The head that a receiver got, and the log."""
    heads: list[bytes] = []
    log = io.StringIO()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            await respond(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await _report(f"http://{user}127.0.0.1:{port}/ready?x=1", "127.0.0.1", log)
    return heads[0], log.getvalue()


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"5\r\nagain\r\n")
            await writer.drain()

    async def ask() -> str:
        async with asyncio.timeout(4):  # the callback's own limit is five
            return (await _answered(respond))[1]

    assert json.loads(asyncio.run(ask()))["outcome"] == "delivered"


def test_a_receiver_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m0_worker.callback._TIMEOUT_S", 0.1)

    async def respond(_writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)

    assert json.loads(asyncio.run(_answered(respond))[1])["outcome"] == "failed"


def test_credentials_are_sent_and_not_logged() -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    head, log = asyncio.run(_answered(respond, "user:pass-7c1@"))
    assert b"authorization: basic " + base64.b64encode(b"user:pass-7c1") in head.replace(b"Basic", b"basic").replace(
        b"Authorization", b"authorization"
    )
    assert b"POST /ready?x=1 HTTP/1.1" in head
    assert "pass-7c1" not in log
    assert json.loads(log)["callback_url"].endswith("/ready?x=***")


@pytest.mark.parametrize("answer", [b"", b"220 ready\r\n", b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n"])
def test_an_answer_that_is_no_success_is_a_failure(answer: bytes) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    narrated = json.loads(asyncio.run(_answered(respond))[1])
    assert (narrated["outcome"], narrated["level"]) == ("failed", "WARN")
    assert narrated["reason"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("receiver", ["[::1]:1", "127.0.0.1:1", f"{'x' * 70}.invalid", "x..invalid"])
def test_a_receiver_that_is_not_there_is_no_failure_of_the_worker(receiver: str, host: str) -> None:
    assert report(f"http://{receiver}/", host)["outcome"] == "failed"
