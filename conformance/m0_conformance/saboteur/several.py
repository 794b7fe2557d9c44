"""Many defects in one worker: every hook of each of them, the first one nearest to the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.http import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from socket import socket

    from m0_conformance.saboteur.defect import Event, Proxy
    from m0_conformance.saboteur.http import Head, Request


class Several(Defect):
    """What a client sends passes the parts from the first to the last, what it gets from the last to the first."""

    parts: ClassVar[tuple[type[Defect], ...]] = ()

    def __init__(self) -> None:
        self.lies = [part() for part in self.parts]
        self.holds_head = any(lie.holds_head for lie in self.lies)

    async def arguments(self, argv: list[str]) -> list[str]:
        for lie in self.lies:
            argv = await lie.arguments(argv)
        return argv

    async def bound(self, public: socket) -> None:
        for lie in self.lies:
            await lie.bound(public)

    async def before_start(self, proxy: Proxy) -> None:
        for lie in self.lies:
            await lie.before_start(proxy)

    async def ready(self, proxy: Proxy) -> None:
        for lie in self.lies:
            await lie.ready(proxy)

    def line(self, stream: str, text: str) -> list[str]:
        lines = [text]
        for lie in reversed(self.lies):
            lines = [out for line in lines for out in lie.line(stream, line)]
        return lines

    def lines_at_exit(self) -> list[str]:
        return [line for lie in self.lies for line in lie.lines_at_exit()]

    async def exit_code(self, code: int, *, ready: bool) -> int:
        for lie in reversed(self.lies):
            code = await lie.exit_code(code, ready=ready)
        return code

    async def signal(self, number: int, proxy: Proxy) -> bool:
        return all([await lie.signal(number, proxy) for lie in self.lies])

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        """The first part that answers itself is the last that sees the request; parts before it see its answer."""
        for number, lie in enumerate(self.lies):
            wanted = await lie.request(request, proxy)
            if isinstance(wanted, Answer):
                for earlier in reversed(self.lies[:number]):
                    wanted = await earlier.answer(request, wanted, proxy)
                return wanted
            request = wanted
        return request

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        for lie in reversed(self.lies):
            answer = await lie.answer(request, answer, proxy)
        return answer

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        for lie in reversed(self.lies):
            body = lie.health(body)
        return body

    def stream_head(self, request: Request, head: Head) -> Head:
        for lie in reversed(self.lies):
            head = lie.stream_head(request, head)
        return head

    def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        for lie in reversed(self.lies):
            events = lie.events(request, events, proxy)
        return events

    def encode(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        """The last part that writes the bytes itself; two such parts do not fit into one worker."""
        own = [lie for lie in self.lies if type(lie).encode is not Defect.encode]
        return own[-1].encode(request, events) if own else Defect.encode(self, request, events)

    async def after_stream(self, request: Request, proxy: Proxy) -> None:
        for lie in self.lies:
            await lie.after_stream(request, proxy)

    def client_left(self, request: Request) -> bool:
        return all(lie.client_left(request) for lie in self.lies)
