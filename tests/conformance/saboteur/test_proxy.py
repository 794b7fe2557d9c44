"""The truth changes no byte of a body; a defect changes its place and nothing else."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from m0_conformance.saboteur.catalogue import Truth, catalogue
from m0_conformance.saboteur.defect import Defect, Event, Proxy
from m0_conformance.saboteur.http import Request
from m0_conformance.saboteur.proxy import FAULT, LyingProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.http import Answer

# Unusual spacing, key order, a comment and letters outside ASCII: nothing an encoder would reproduce by chance.
STREAM = (
    'event: started\ndata: {"model":"m",  "job_id":"j","started_at":"2026-01-01T00:00:00Z"}\n\n'
    ": a comment\n\n"
    'event:token\ndata: {"i": 0,"t":"\u00e9\U0001f600"}\n\n'
    'event: token\ndata: {"t":" b","i":1}\n\n'
    'event: token\ndata: {"t":" c","i":2}\n\n'
    'event: token\ndata: {"t":" d","i":3}\n\n'
    'event: end\ndata: {"tokens_out":4,\ndata: "decode_time_ms":1}\n\n'
).encode()
HEALTH = b'{"status": "healthy",   "model":"m"}'


class Upstream:
    """A worker made of constants, which counts what it is asked."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.left = asyncio.Event()
        self.endless = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.answer(reader, writer)
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l")), 0
        )
        self.requests.append(head + await reader.readexactly(length))
        if head.startswith(b"POST /execute"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(STREAM), 7):
                piece = STREAM[start : start + 7]
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            while self.endless and await reader.read(1):
                pass
            if self.endless:
                self.left.set()
            writer.write(b"0\r\n\r\n")
        elif head.startswith(b"GET /health"):
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(HEALTH)
            )
            writer.write(HEALTH)
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()


@asynccontextmanager
async def behind(defect: Defect) -> AsyncIterator[tuple[Upstream, int]]:
    upstream = Upstream()
    worker = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    proxy = LyingProxy(defect, [worker.sockets[0].getsockname()[1]])
    public = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with worker, public:
        yield upstream, public.sockets[0].getsockname()[1]
        open_still = asyncio.all_tasks() - {asyncio.current_task()}
        for task in open_still:
            task.cancel()
        await asyncio.gather(*open_still, return_exceptions=True)


async def ask(port: int, raw: bytes) -> tuple[bytes, bytes]:
    """Head and body, chunked coding removed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return head, body
    whole = b""
    while body and (size := int(body.split(b"\r\n")[0], 16)):
        start = body.index(b"\r\n") + 2
        whole, body = whole + body[start : start + size], body[start + size + 2 :]
    return head, whole


def post(body: dict[str, Any], path: str = "/execute") -> bytes:
    data = json.dumps(body).encode()
    return b"POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        path.encode(),
        len(data),
        data,
    )


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()


JOB = {"job_id": "j", "prompt": "p", "max_tokens": 4}


@pytest.mark.asyncio
async def test_a_defect_s_own_request_brings_the_whole_answer_or_an_error() -> None:
    upstream = Upstream()
    worker = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    proxy = LyingProxy(Defect(), [worker.sockets[0].getsockname()[1]])
    own = Request("POST", "/cancel", (("Content-Type", "application/json"),), b'{"job_id": "j"}')
    async with worker:
        assert (await proxy.ask(Request("GET", "/health", (), b""))).json() == json.loads(HEALTH)
        assert (await proxy.ask(own)).head.status == 404
    assert upstream.requests[1] == (
        b"POST /cancel HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: 15\r\n"
        b'Connection: close\r\n\r\n{"job_id": "j"}' % proxy.ports[0]
    )
    with pytest.raises(OSError, match="POST /cancel: no answer"):
        await proxy.ask(own)


@pytest.mark.asyncio
async def test_the_truth_changes_no_byte() -> None:
    async with behind(catalogue()["truth"]()) as (upstream, port):
        assert (await ask(port, post(JOB)))[1] == STREAM
        assert (await ask(port, get("/health")))[1] == HEALTH
        assert (await ask(port, get("/nowhere")))[0].startswith(b"HTTP/1.1 404")
    assert upstream.requests[0].endswith(json.dumps(JOB).encode())


@pytest.mark.asyncio
async def test_a_defect_of_one_field_changes_nothing_else() -> None:
    async with behind(catalogue()["index-gap"]()) as (_, port):
        body = (await ask(port, post(JOB)))[1]
    assert body == STREAM.replace(b'{"t":" d","i":3}', b'{"t":" d","i":4}')


@pytest.mark.asyncio
async def test_a_defect_of_the_request_leaves_other_requests_alone() -> None:
    async with behind(catalogue()["hole-max-tokens-0"]()) as (upstream, port):
        await ask(port, post(JOB))
        await ask(port, post({**JOB, "max_tokens": 0}))
        await ask(port, post({"job_id": "j"}, "/cancel"))
    sent = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in upstream.requests]
    assert sent == [JOB, {**JOB, "max_tokens": 1}, {"job_id": "j"}]


@pytest.mark.asyncio
async def test_a_refusal_never_reaches_the_worker() -> None:
    async with behind(catalogue()["temperature-2-refused"]()) as (upstream, port):
        head, body = await ask(port, post({**JOB, "temperature": 2.0}))
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["errors"][0]["field"] == "temperature"
    assert not upstream.requests


@pytest.mark.asyncio
async def test_what_is_no_http_is_answered() -> None:
    async with behind(catalogue()["truth"]()) as (_, port):
        head, _ = await ask(port, b"POST /execute HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")


@pytest.mark.asyncio
@pytest.mark.parametrize("told", [True, False])
async def test_the_worker_learns_that_its_client_left(told: bool) -> None:
    class Leaving(Defect):
        def client_left(self, request: Request) -> bool:  # noqa: ARG002 - the hook's signature
            return told

    async with behind(Leaving()) as (upstream, port):
        upstream.endless = True
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(JOB))
        await reader.readuntil(b"started")
        writer.close()
        if told:
            await asyncio.wait_for(upstream.left.wait(), 5)
        else:
            await asyncio.sleep(0.2)
            assert not upstream.left.is_set()


@pytest.mark.asyncio
async def test_a_stream_that_a_lie_ends_early_holds_nobody_back() -> None:
    class EndsEarly(Defect):
        async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:  # noqa: ARG002 - as above
            async for event in events:
                if event.data.get("i") == 2:
                    return
                yield event

    async with behind(EndsEarly()) as (_, port):
        for _ in range(3):
            body = (await ask(port, post(JOB)))[1]
            assert body == STREAM[: STREAM.index(b'event: token\ndata: {"t":" c"')]


@pytest.mark.asyncio
async def test_a_job_begins_when_the_one_before_has_ended() -> None:
    """However slowly this proxy passes on what its worker said in order."""
    proxy = LyingProxy(Truth(), [0])
    told: list[str] = []

    async def said(name: str, wait: float) -> AsyncIterator[bytes]:
        await asyncio.sleep(wait)
        for number in range(3):
            yield f"{name}{number}".encode()
            await asyncio.sleep(0.002)  # what comes next is on its way

    async def pass_on(name: str, wait: float) -> None:
        async for piece in proxy._in_order(0, said(name, wait)):
            await asyncio.sleep(0.004)
            told.append(piece.decode())

    await asyncio.gather(pass_on("a", 0.0), pass_on("b", 0.005))
    assert told == ["a0", "a1", "a2", "b0", "b1", "b2"]


@pytest.mark.asyncio
async def test_a_defect_that_raises_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Defect):
        name = ""

        async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:  # noqa: ARG002 - as above
            raise KeyError("oops")

    async with behind(Broken()) as (_, port):
        assert await ask(port, get("/health")) == (b"", b"")
    assert FAULT in capsys.readouterr().err


def test_an_event_keeps_its_bytes_until_something_changes() -> None:
    block = b'event: token\ndata: {"i" : 0, "t":"a"}\n\n'
    event = Event.parse(block)
    assert event.encode() == block
    event.data = dict(reversed(event.data.items()))
    assert event.encode() == b'event: token\ndata: {"t":"a","i":0}\n\n'
    assert Event.parse(b"data: no json\n\n").encode() == b"data: no json\n\n"
    assert Event.parse(b"data: [1]\n\n").encode() == b"data: [1]\n\n"
