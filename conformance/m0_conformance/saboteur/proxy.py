"""The lying proxy: clients on the public port, the real worker behind it, a defect in between."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import sys
from typing import TYPE_CHECKING

from m0_conformance.recording import client
from m0_conformance.recording.request import Request as Sent
from m0_conformance.saboteur.defect import Event
from m0_conformance.saboteur.http import Answer, Head, Request, body_of, json_answer, read_answer_head, read_request

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncGenerator, AsyncIterator

    from m0_conformance.saboteur.defect import Defect

FAULT = "saboteur-fault:"
"""Begins the line that tells of a defect that raised by mistake: such a run shows nothing."""
_NOTHING = Request("GET", "/", (("Connection", "close"),), b"")
_NO_HTTP = json_answer(400, {"code": "INVALID_REQUEST", "message": "this is no HTTP request", "retriable": False})
ASK_S = 60.0
"""Longest wait for the answer to a request of a defect's own."""
HELD_TURNS = 20
"""Turns of the loop, a millisecond each, in which a stream would have moved if no lie held it back."""
_HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "keep-alive"}


class LyingProxy:
    """One public port; ``ports`` are the workers behind it, the first one unless a defect asks for another."""

    def __init__(self, defect: Defect, ports: list[int]) -> None:
        self.defect = defect
        self.ports = ports
        self.answered = 0
        """Requests so far."""
        self.running: dict[str, asyncio.Event] = {}
        """By job_id of streams now running: set when the client has left."""
        self._behind: set[tuple[int, object]] = set()
        """Streams, with their worker, of which something has arrived that has not been passed on."""
        self._line: list[tuple[int, object]] = []
        """Streams, with their worker, of which something has arrived, and not yet passed on to the end: in order."""
        self._moves = 0
        """Counts the pieces of all streams that have been passed on."""

    # ---- towards the worker ---------------------------------------------------------------------------------------

    async def forward(self, request: Request, worker: int = 0) -> tuple[Head, AsyncIterator[bytes], StreamWriter]:
        """Send a client's request on to a worker: head, body pieces, and the writer to close.

        By hand, not by httpx2: what a client sent goes on as it came, well-formed or not, and the answer's head comes
        back with its reason and the case of its fields, which a defect may change and the suite judges.

        Raises:
            OSError: no connection, or one that was lost.
            ValueError: the answer is none.
        """
        port = self.ports[worker]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request.encode(f"127.0.0.1:{port}"))
        await writer.drain()
        head = await read_answer_head(reader)
        if head is None:
            writer.close()
            raise ValueError("the worker closed without an answer")
        return head, body_of(reader, head.headers, request=False), writer

    async def ask(self, request: Request, worker: int = 0) -> Answer:
        """Send a request of the defect's own, and take the whole answer. Raises OSError when there is none."""
        own = Sent(request.method, request.target, list(request.headers), request.body)
        address = ("127.0.0.1", self.ports[worker])
        live = client.start(address, own, identity="", label="", clock=client.Clock(), timeout=ASK_S)
        answer = await live.done()
        if answer.status is None:
            raise OSError(f"{request.method} {request.target}: no answer ({answer.end} {answer.error})")
        return Answer(Head(answer.status, answer.headers, answer.reason), answer.body)

    def worker_of(self, request: Request) -> int:
        """Which worker serves a request: the first. With two workers, jobs take turns (see `Interleaving`)."""
        return getattr(self.defect, "worker_of", lambda _: 0)(request)

    # ---- towards the client ---------------------------------------------------------------------------------------

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One client connection."""
        try:
            for number in itertools.count(1):
                try:
                    request = await read_request(reader, number)
                except ValueError:  # no request that could be passed on: answered as any server does
                    await self._send(writer, _NOTHING, _NO_HTTP)
                    return
                if request is None or not await self._serve_one(request, reader, writer):
                    return
        except (OSError, ValueError, asyncio.IncompleteReadError):
            return
        except Exception as error:  # noqa: BLE001 - a broken connection by mistake would look like a catch
            sys.stderr.write(f"{FAULT} {self.defect.name}: {type(error).__name__}: {error}\n")
            sys.stderr.flush()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve_one(self, request: Request, reader: StreamReader, writer: StreamWriter) -> bool:
        self.answered += 1
        wanted = await self.defect.request(request, self)
        if isinstance(wanted, Answer):
            return await self._send(writer, request, wanted)
        number = self.worker_of(wanted)
        head, body, worker = await self.forward(wanted, number)
        try:
            if head.status == 200 and head.header("content-type").startswith("text/event-stream"):
                async with contextlib.aclosing(self._in_order(number, body)) as ordered:  # a lie may end a stream early
                    await self._stream(wanted, head, ordered, worker, reader, writer)
                return False
            answer = Answer(head, b"".join([piece async for piece in body]))
        finally:
            worker.close()
        if request.path == "/cancel":
            await self._caught_up(number, self._behind, HELD_TURNS)
        if request.path == "/health" and head.status == 200 and isinstance(answer.json(), dict):
            said = answer.json()
            changed = self.defect.health(dict(said))
            if changed != said:
                answer = Answer(head, _dump(changed))
        return await self._send(writer, request, await self.defect.answer(request, answer, self))

    async def _send(self, writer: StreamWriter, request: Request, answer: Answer) -> bool:
        head = answer.head
        head.headers = [(k, v) for k, v in head.headers if k.lower() not in _HOP_BY_HOP]
        close = any(k.lower() == "connection" and v.lower() == "close" for k, v in request.headers)
        head.headers += [("content-length", str(len(answer.body))), ("connection", "close" if close else "keep-alive")]
        writer.write(head.encode() + answer.body)
        await writer.drain()
        return not close

    async def _in_order(self, worker: int, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """A body whose first piece waits until what other streams of its worker brought earlier has been passed on.

        Jobs that the worker runs one after the other must not seem to overlap because this proxy was slow.
        """
        me = (worker, object())
        pieces = aiter(body)
        first = True
        try:
            while True:
                self._behind.discard(me)
                self._moves += 1
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                if first:
                    self._line.append(me)
                    await self._caught_up(worker, self._behind)
                    await self._turn(me)
                    first = False
                self._behind.add(me)
                yield piece
        finally:
            self._behind.discard(me)
            if me in self._line:
                self._line.remove(me)

    async def _turn(self, me: tuple[int, object]) -> None:
        """Wait until the streams of this worker that began before are over, or nothing moved for HELD_TURNS."""
        still = moves = 0
        while still < HELD_TURNS and any(other[0] == me[0] for other in self._line[: self._line.index(me)]):
            still, moves = (still + 1, moves) if moves == self._moves else (0, self._moves)
            await asyncio.sleep(0.001)

    async def _caught_up(self, worker: int, streams: set[tuple[int, object]], turns: float = math.inf) -> None:
        """Wait until none of these streams is a worker's, or nothing moved for so many turns.

        What a worker sent before it answered a cancel comes before that answer; a lie may hold it back, we may not.
        """
        calm = still = moves = 0
        while calm < 3 and still < turns:  # a stream that was just woken marks itself in the next turn of the loop
            calm = 0 if any(other == worker for other, _ in streams) else calm + 1
            still, moves = (still + 1, moves) if moves == self._moves else (0, self._moves)
            await asyncio.sleep(0 if calm else 0.001)

    async def _stream(
        self,
        request: Request,
        head: Head,
        body: AsyncIterator[bytes],
        worker: StreamWriter,
        reader: StreamReader,
        writer: StreamWriter,
    ) -> None:
        job = str(request.json().get("job_id"))
        gone = self.running[job] = asyncio.Event()
        head.headers = [(k, v) for k, v in head.headers if k.lower() not in _HOP_BY_HOP]
        head.headers += [("transfer-encoding", "chunked"), ("connection", "close")]
        head = self.defect.stream_head(request, head)
        chunked = head.header("transfer-encoding") == "chunked"
        if not self.defect.holds_head:
            writer.write(head.encode())
        watch = asyncio.create_task(_until_closed(reader))
        pieces = self.defect.encode(request, self.defect.events(request, _events(body), self)).__aiter__()
        step = asyncio.ensure_future(anext(pieces))
        said = not self.defect.holds_head
        try:
            while True:
                await asyncio.wait({step, watch}, return_when=asyncio.FIRST_COMPLETED)
                left = watch.done() and not step.done()
                if not left:
                    try:
                        piece = step.result()
                    except StopAsyncIteration:
                        break
                    if not said:
                        writer.write(head.encode())
                        said = True
                    left = not await _written(writer, piece, chunked=chunked)
                    step = asyncio.ensure_future(anext(pieces))
                if left:
                    gone.set()
                    if not self.defect.client_left(request):
                        await _drain(step, pieces)
                    return
            await self.defect.after_stream(request, self)
            if chunked:
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        finally:
            watch.cancel()
            self.running.pop(job, None)
            worker.close()
            await _given_up(step)


async def _written(writer: StreamWriter, piece: bytes, *, chunked: bool) -> bool:
    """Write a piece of a stream; False when the client is gone."""
    if not piece:
        return True
    try:
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        await writer.drain()
    except OSError:
        return False
    return True


async def _given_up(step: asyncio.Future[bytes]) -> None:
    """Cancel a step that may still run, and wait until it has let go of the stream."""
    step.cancel()
    await asyncio.wait({step})
    if not step.cancelled():
        step.exception()  # looked at, so that nothing is written about it


async def _drain(step: asyncio.Future[bytes], pieces: AsyncIterator[bytes]) -> None:
    """Take everything the worker still says, and throw it away."""
    with contextlib.suppress(StopAsyncIteration):
        await step
        while True:
            await anext(pieces)


async def _until_closed(reader: StreamReader) -> None:
    while await reader.read(1 << 12):
        pass


def _dump(value: object) -> bytes:
    return json.dumps(value).encode()


async def _events(body: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """Cut a body at its blank lines; what is left at the end comes as it is."""
    buffer = b""
    async for piece in body:
        buffer += piece
        while (end := buffer.find(b"\n\n")) >= 0:
            block, buffer = buffer[: end + 2], buffer[end + 2 :]
            yield Event.parse(block)
    if buffer:
        yield Event("", {}, buffer)
