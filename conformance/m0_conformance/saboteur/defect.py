"""What a defect is: a small named class whose hooks lie at one place. The base class tells the truth everywhere.

A defect says which clauses it must turn red (``kills``), which others it cannot help turning red (``collateral``) and
where such a defect was seen (``source``). An oddity kills nothing: it is unusual and conforms.

One object serves one worker process, so a defect may keep state between requests.
"""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator
    from socket import socket

    from m0_conformance.saboteur.http import Answer, Head, Request


class Event:
    """One SSE event as the worker sent it; change its fields, or ``raw`` for what no encoder would write."""

    __slots__ = ("_said", "data", "name", "raw")

    def __init__(self, name: str, data: dict[str, Any], raw: bytes | None = None) -> None:
        self.name = name
        self.data = data
        self.raw = raw
        self._said: tuple[str, str, bytes] | None = None

    @classmethod
    def parse(cls, block: bytes) -> Event:
        """From the bytes of one event with its blank line."""
        name, data = "", []
        for line in block.decode("utf-8", "surrogateescape").splitlines():
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
        try:
            value = json.loads("\n".join(data))
        except ValueError:
            return cls(name, {}, block)
        if not isinstance(value, dict):
            return cls(name, {}, block)
        event = cls(name, value)
        event._said = (name, json.dumps(value), block)
        return event

    def encode(self) -> bytes:
        """``raw`` when set; the worker's own bytes when nothing was changed; else the ordinary form."""
        if self.raw is not None:
            return self.raw
        if self._said is not None and self._said[:2] == (self.name, json.dumps(self.data)):
            return self._said[2]
        text = json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        name = f"event: {self.name}\n" if self.name else ""
        return f"{name}data: {text}\n\n".encode("utf-8", "surrogateescape")

    @property
    def terminal(self) -> bool:
        """An end or an error."""
        return self.name in {"end", "error"}


class Proxy(Protocol):
    """What a defect may use of the proxy that it lies in."""

    answered: int
    """Requests so far."""
    running: dict[str, asyncio.Event]
    """By job_id of streams now running: set when the client has left."""

    async def ask(self, request: Request, worker: int = 0) -> Answer:
        """Send a request to a worker and take the whole answer."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client connection."""


class Defect:
    """Tells the truth; subclasses lie."""

    name: ClassVar[str] = ""
    about: ClassVar[str] = ""
    """One sentence: what a worker with this defect does."""
    kills: ClassVar[tuple[str, ...]] = ()
    """Clauses that must be red."""
    collateral: ClassVar[tuple[str, ...]] = ()
    """Clauses that may be red with it."""
    watch: ClassVar[tuple[str, ...]] = ()
    """Further clauses whose checks must run, whatever they say: an oddity is looked at by many."""
    source: ClassVar[str] = ""
    """Where it was seen: an entry of the catalogue of known defects, or a public issue."""
    oddity: ClassVar[bool] = False
    """Unusual but conforming: nothing may be red."""
    crashes: ClassVar[bool] = False
    """The defect is a crash; otherwise a worker that dies is not a catch."""
    condition: ClassVar[str] = ""
    """Of a conditional defect: `dimension=level`, where alone it lies."""
    of_condition: ClassVar[tuple[str, ...]] = ()
    """Of a conditional defect: clauses about the condition itself, which such a worker breaks as well."""
    workers: ClassVar[int] = 1
    """Two workers behind one port interleave for real."""

    holds_head: bool = False
    """The head of a stream waits for the first of its bytes."""

    file: ClassVar[str] = ""
    """Where it is declared, when it is data."""

    @classmethod
    def place(cls) -> str:
        """The file that holds it, below this package."""
        return cls.file or cls.__module__.partition(".")[2].replace(".", "/") + ".py"

    @classmethod
    def hooks(cls) -> set[str]:
        """The hooks at which it may lie."""
        return {name for name in HOOKS if getattr(cls, name) is not getattr(Defect, name)}

    # ---- the process ----------------------------------------------------------------------------------------------

    async def arguments(self, argv: list[str]) -> list[str]:
        """The worker's command line before it starts. May raise `Exit`."""
        return argv

    async def bound(self, public: socket) -> None:
        """The public port is taken; nobody listens on it yet."""

    async def before_start(self, proxy: Proxy) -> None:
        """Before the worker is started."""

    async def ready(self, proxy: Proxy) -> None:
        """After the worker became ready, before the saboteur's port accepts connections."""

    def line(self, stream: str, text: str) -> list[str]:
        """The lines that come out for one line of the worker."""
        return [text]

    def lines_at_exit(self) -> list[str]:
        """Lines written on stdout when the worker has ended."""
        return []

    async def exit_code(self, code: int, *, ready: bool) -> int:
        """The exit code shown for the worker's own; ``ready`` says whether it had ever served."""
        return code

    async def signal(self, number: int, proxy: Proxy) -> bool:
        """A signal came; True passes it on to the worker."""
        return True

    # ---- a request ------------------------------------------------------------------------------------------------

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        """What goes to the worker, or an answer in its place."""
        return request

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        """Any answer that is no event stream."""
        return answer

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of a successful GET /health."""
        return body

    # ---- an event stream ------------------------------------------------------------------------------------------

    def stream_head(self, request: Request, head: Head) -> Head:
        """Head of an event stream."""
        return head

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        """The events of a stream, one by one as they arrive."""
        async for event in events:
            for changed in self.event(request, event):
                yield changed

    def event(self, request: Request, event: Event) -> list[Event]:
        """The events that come out for one."""
        return [event]

    async def encode(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        """The body's bytes; each piece is written and flushed by itself."""
        async for event in events:
            yield event.encode()

    async def after_stream(self, request: Request, proxy: Proxy) -> None:
        """After the last byte of a stream, before the connection is closed."""

    def client_left(self, request: Request) -> bool:
        """The client went away; True lets the worker know."""
        return True


HOOKS = tuple(name for name, value in vars(Defect).items() if inspect.isfunction(value) and not name.startswith("_"))


class Exit(Exception):  # noqa: N818 - a wish, not an error
    """Leave now with this code, after these lines on stderr."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(code)
        self.code = code
        self.lines = lines
