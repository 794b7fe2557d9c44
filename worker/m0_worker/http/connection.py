"""One connection: HTTP/1.1 by httptools, whose heads, silences and unread answers all have limits.

httptools collects a header of any length, at a cost that grows with its square, and uvicorn waits for ever for a head,
a body or a reader. What is refused here never becomes a request: the answer is written by hand and carries M0's body.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

    from m0_worker.http.connection_limits import ConnectionLimits


class Refusal(NamedTuple):
    """An answer to what is no request, or may not become one."""

    status: int
    phrase: str
    message: str
    code: str = "INVALID_REQUEST"
    retriable: bool = False

    def encode(self) -> bytes:
        """The whole answer."""
        told = {"code": self.code, "message": self.message, "retriable": self.retriable}
        body = json.dumps(told, separators=(",", ":")).encode()
        retry = "retry-after: 1\r\n" if self.status == 503 else ""
        head = (
            f"HTTP/1.1 {self.status} {self.phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"x-correlation-id: {uuid4()}\r\n{retry}connection: close\r\n\r\n"
        )
        return head.encode() + body


NOT_HTTP = Refusal(400, "Bad Request", "the request is not valid HTTP/1.1")
HEAD_TOO_SLOW = Refusal(408, "Request Timeout", "the head of the request did not arrive in time", retriable=True)
SILENT = Refusal(408, "Request Timeout", "no request came", retriable=True)
CROWDED = Refusal(503, "Service Unavailable", "as many connections are open as may", code="INTERNAL", retriable=True)


class RefusedError(Exception):
    """Ends httptools' parsing; `send_400_response` follows and tells why."""


class Host(Protocol):
    """Who knows all connections."""

    limits: ConnectionLimits

    def enter(self, connection: Connection) -> None:
        """A client connected."""

    def leave(self, connection: Connection) -> None:
        """Its connection is gone."""


class Connection(HttpToolsProtocol):
    """A client's connection, with a deadline for whatever is awaited of the client."""

    def __init__(self, *arguments: Any, room: Host, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._room = room
        self._limits = room.limits
        self._refusal = NOT_HTTP
        self._refused = False  # an answer of ours was the last one: what still comes is thrown away
        self._deaf = False  # the same, once the response in flight is complete
        self._in_head = False
        self._head_bytes = 0  # of complete headers
        self._pending_bytes = 0  # of chunks that lay in a head from their first byte to their last
        self._n_headers = 0
        self._answered = False
        self._awaits_body = False
        self.reserved = False
        self.waiting_since = 0.0
        self._deadline: float | None = None
        self._stalled_since: float | None = None
        self._closing_since: float | None = None

    # What uvicorn and httptools call.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected: it has its place, or is told that there is none."""
        super().connection_made(transport)
        self._await(self._limits.idle_s)
        self._room.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._room.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a client; those of an endless head are not even parsed."""
        if self._refused or self._deaf:
            return
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head and not self._refused:
            self._pending_bytes += len(data)
            if self._pending_bytes > self._limits.head_bytes:
                self.refuse(self._head_too_large())

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._pending_bytes = self._n_headers = 0
        if not self.in_flight:
            self._await(self._limits.head_s)

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        if len(self.url) + len(url) > self._limits.target_bytes:
            told = f"the target of the request is longer than {self._limits.target_bytes} bytes"
            self._refuse_parsing(Refusal(414, "URI Too Long", told))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A complete header, or trailer."""
        self._head_bytes += len(name) + len(value) + 4
        self._n_headers += 1
        if self._head_bytes > self._limits.head_bytes or self._n_headers > self._limits.headers:
            self._refuse_parsing(self._head_too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request: from here on the application answers."""
        self._in_head = False
        self._awaits_body = True
        self._await(self._limits.body_s)
        super().on_headers_complete()
        if self.reserved:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The last byte of a body."""
        super().on_message_complete()
        self._awaits_body = False
        if self.in_flight:
            self._deadline = None

    def on_response_complete(self) -> None:
        """An answer is sent."""
        self._answered = True
        super().on_response_complete()
        if not self.in_flight and not self._awaits_body:
            self._await(self._limits.head_s if self._in_head else self._limits.idle_s)

    def pause_writing(self) -> None:
        """The client does not read."""
        self._stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client read."""
        self._stalled_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Httptools gave up: what came is no HTTP, or was refused while it was parsed."""
        self.refuse(self._refusal)

    # What the room asks.

    @property
    def in_flight(self) -> bool:
        """Whether a response is being made or pipelined requests wait for theirs."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def evictable(self) -> bool:
        """Whether nobody would miss it: no complete head has come that is not yet answered."""
        return not self.in_flight and not self.transport.is_closing()

    def evict(self) -> None:
        """Make room for somebody else."""
        self._part(CROWDED)

    def refuse(self, refusal: Refusal) -> None:
        """Answer and close, not before the client had a chance to read the answer."""
        if self._refused or self.transport.is_closing():
            return
        if self.in_flight:
            if self.pipeline or self.cycle.response_started or not self._awaits_body:
                self._deaf = True  # an answer in the middle of another would break that: it was the last
                self.cycle.keep_alive = False
                return
            self.cycle.disconnected = True  # what the application is still reading has no end
            self.cycle.message_event.set()
        self._refused = True
        self.transport.write(refusal.encode())
        # Closing with bytes unread resets the connection, and the client would never see the answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._await(self._limits.linger_s)

    def check(self, now: float) -> None:
        """End the connection if its client lets others wait for too long."""
        limits = self._limits
        if self.transport.is_closing():
            self._closing_since = now if self._closing_since is None else self._closing_since
            if now - self._closing_since > limits.linger_s:
                self.transport.abort()
        elif self._stalled_since is not None and now - self._stalled_since > limits.stall_s:
            self.transport.abort()
        elif self._deadline is not None and now > self._deadline:
            self._expire()

    def _expire(self) -> None:
        if self._refused:
            self.transport.close()
        elif self._awaits_body:
            self.transport.abort()  # the application had its own, shorter limit for the body
        elif not self.in_flight:
            self._part(HEAD_TOO_SLOW if self._in_head else SILENT)

    def _part(self, refusal: Refusal) -> None:
        # Between two requests a client may be about to send one, and would take what we say for its answer.
        if not self._refused and (self._in_head or not self._answered):
            self._refused = True
            self.transport.write(refusal.encode())
        self.transport.close()

    def _await(self, seconds: float) -> None:
        self.waiting_since = self.loop.time()
        self._deadline = self.waiting_since + seconds

    def _head_too_large(self) -> Refusal:
        limits = self._limits
        told = f"the head of the request has more than {limits.head_bytes} bytes or {limits.headers} headers"
        return Refusal(431, "Request Header Fields Too Large", told)

    def _refuse_parsing(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise RefusedError
