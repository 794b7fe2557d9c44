from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from m0_conformance.targets import free_port
from m0_conformance.wire.client import Clock, Live, Request, json_request, start
from m0_conformance.wire.transcript import Exchange, Recording

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talk(handler: Handler, act: Callable[[Live], Awaitable[object]], request: Request | None = None) -> Exchange:
    """Serve with `handler`, start one exchange and let `act` do with it what it likes."""

    async def run() -> Exchange:
        async def safely(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
            writer.close()

        server = await asyncio.start_server(safely, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()[:2]
        live = start(address, request or Request("GET", "/"), identity="x1", label="l", clock=Clock(), timeout=0.5)
        await act(live)
        server.close()
        return await live.done()

    return asyncio.run(run())


async def whole(live: Live) -> None:
    await live.done()


def saying(*parts: bytes, pause: float = 0.0, hang: bool = False) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        if hang:
            await asyncio.sleep(5)

    return handler


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Case: Kept\r\n\r\n"


def test_chunks_are_recorded_with_their_arrival() -> None:
    exchange = talk(saying(HEAD, b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n", pause=0.05), whole)
    assert exchange.end == "eof"
    assert [chunk.data for chunk in exchange.chunks] == [b"one", b"two"]
    assert exchange.chunks[1].at - exchange.chunks[0].at > 0.03
    assert exchange.time_of_byte(3) == exchange.chunks[1].at
    assert exchange.time_of_byte(6) is None
    assert ("X-Case", "Kept") in exchange.headers
    assert exchange.head == HEAD


@pytest.mark.parametrize(
    ("handler", "end", "word"),
    [
        (saying(HEAD, b"3\r\none\r\n"), "reset", "middle of a body"),
        (saying(), "reset", "without an answer"),
        (saying(hang=True), "timeout", "0.5 s"),
        (saying(b"nonsense", hang=True), "garbage", "does not begin"),
        (saying(b"HTTP/1.1 200", hang=False), "garbage", "middle of the headers"),
        (saying(b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n"] * 3, hang=True), "timeout", "0.5 s"),
    ],
)
def test_every_bad_end_has_its_word(handler: Handler, end: str, word: str) -> None:
    exchange = talk(handler, whole)
    assert exchange.end == end
    assert word in exchange.error


def test_nobody_listening_is_refused() -> None:
    async def run() -> Exchange:
        address = ("127.0.0.1", free_port())
        return await start(address, Request("GET", "/"), identity="x", label="", clock=Clock(), timeout=2).done()

    assert asyncio.run(run()).end == "refused"


def test_hanging_up_ends_the_exchange_at_once() -> None:
    async def act(live: Live) -> None:
        assert await live.wait(lambda: bool(live.exchange.chunks), 2.0)
        await live.hang_up(reset=True)

    exchange = talk(saying(HEAD, b"3\r\none\r\n", hang=True), act)
    assert exchange.end == "client-closed"
    assert exchange.body == b"one"


def test_waiting_tells_when_the_exchange_ended_without_it() -> None:
    async def act(live: Live) -> None:
        assert not await live.wait(lambda: False, 2.0)

    assert talk(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), act).end == "eof"


def test_an_early_answer_to_a_big_body_is_recorded() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Big\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await asyncio.sleep(0.2)

    exchange = talk(handler, whole, Request("POST", "/execute", body=b"x" * 20_000_000))
    assert exchange.status == 413


def test_a_request_is_well_formed_and_lone_surrogates_travel() -> None:
    request = json_request("POST", "/execute", {"prompt": "\ud800"})
    data = request.encode("h:1")
    assert b"Host: h:1\r\n" in data
    assert b"Content-Length: 20\r\n" in data
    assert data.endswith(b'{"prompt": "\\ud800"}')


def test_a_recording_survives_the_round_trip() -> None:
    exchange = talk(saying(HEAD, b"2\r\n\xe4\xbd\r\n", b"1\r\n\xa0\r\n", b"0\r\n\r\n", pause=0.02), whole)
    recording = Recording("c", ("M0-W-1310/utf8-bytes",), [exchange], facts={"a": [1, None, "\ud800"]})
    again = Recording.decode(recording.encode())
    assert again == recording
    assert again.sha == recording.sha
    assert again.exchanges[0].body == "你".encode()
