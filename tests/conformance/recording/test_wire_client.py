from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from m0_conformance.recording.client import Clock, Live, start
from m0_conformance.recording.request import Request
from m0_conformance.recording.transcript import Exchange, Recording
from m0_conformance.targets import free_port

if TYPE_CHECKING:
    from pathlib import Path

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
        try:
            await act(live)
        finally:
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


def test_answers_that_a_client_would_act_on_are_recorded_as_they_are() -> None:
    head = (
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nSet-Cookie: a=b; Expires=never; Domain=\r\n"
        b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n"
    )
    exchange = talk(saying(head, b"not gzip."), whole)
    assert (exchange.status, exchange.end, exchange.head, exchange.body) == (302, "eof", head, b"not gzip.")


def test_what_follows_the_end_of_an_answer_is_seen() -> None:
    exchange = talk(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 again"), whole)
    assert exchange.end == "eof"
    assert exchange.error == "18 bytes after the end of the message"


def test_every_byte_is_recorded_with_its_time_in_both_directions() -> None:
    parts = (b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, b"3;x=y\r\none\r\n", b"0\r\nTrailer: kept\r\n\r\n")
    lives: list[Live] = []

    async def act(live: Live) -> None:
        lives.append(live)
        await live.done()

    exchange = talk(saying(*parts, pause=0.03), act, Request("POST", "/execute", body=b"{}"))
    stream = lives[0].stream
    assert stream is not None
    assert b"".join(chunk.data for chunk in stream.received) == b"".join(parts)
    sent = b"POST /execute HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    assert [chunk.data for chunk in stream.sent] == [sent % exchange.host.encode()]
    times = [chunk.at for chunk in (*stream.sent, *stream.received)]
    assert times == sorted(times)
    assert stream.received[-1].at - stream.received[0].at > 0.06
    assert exchange.sent_at is not None
    assert exchange.sent_at >= stream.sent[0].at
    assert exchange.chunks[0].at == stream.received[-2].at


@pytest.mark.parametrize("raw", [None, b"GET /\0 HTTP/1.1\r\n\r\n"])
def test_pauses_and_a_half_close_go_over_the_recorded_connection(raw: bytes | None) -> None:
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read())  # to the end: our side was closed
        writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    lives: list[Live] = []

    async def act(live: Live) -> None:
        lives.append(live)
        await live.done()

    exchange = talk(handler, act, Request("GET", "/", raw=raw, pauses=[(4, 0.05), (2, 0.05)], half_close=True))
    assert (exchange.status, exchange.end) == (400, "eof")
    stream = lives[0].stream
    assert stream is not None
    assert [len(chunk.data) for chunk in stream.sent][:2] == [4, 2]
    assert stream.sent[2].at - stream.sent[0].at > 0.09
    assert [b"".join(chunk.data for chunk in stream.sent)] == seen
    assert raw is None or seen == [raw]


def test_proxies_and_credentials_of_the_environment_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login keeper password lighthouse\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    exchange = talk(handler, whole)
    assert exchange.status == 200
    assert seen == [b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % exchange.host.encode()]


def test_a_malformed_request_that_is_not_called_raw_is_the_check_s_own_mistake() -> None:
    with pytest.raises(ValueError, match=r"Content-Length.*give its bytes as raw"):
        talk(saying(), whole, Request("POST", "/execute", [("Content-Length", "7")], b"{}"))


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


def test_a_recording_survives_the_round_trip() -> None:
    exchange = talk(saying(HEAD, b"2\r\n\xe4\xbd\r\n", b"1\r\n\xa0\r\n", b"0\r\n\r\n", pause=0.02), whole)
    recording = Recording("c", ("M0-W-1310/utf8-bytes",), [exchange], facts={"a": [1, None, "\ud800"]})
    again = Recording.decode(recording.encode())
    assert again == recording
    assert again.sha == recording.sha
    assert again.exchanges[0].body == "你".encode()
