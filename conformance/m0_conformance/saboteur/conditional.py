"""A conditional defect: one that lies only to jobs which meet a condition, and to the rest of the world never.

It sees nothing of what does not meet its condition. A defect that keeps state between jobs therefore keeps that of the
jobs that do: "after a cancel the next job is cut short, among sampled jobs" takes a sampled job that is cancelled, and
a sampled one to follow. Where a condition comes true in the middle of a stream, the lie begins there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.http import Answer
from m0_conformance.saboteur.lies import is_execute
from m0_conformance.saboteur.life import NOW, Life

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from socket import socket

    from m0_conformance.conditions import Level, Scene
    from m0_conformance.saboteur.defect import Event, Proxy
    from m0_conformance.saboteur.http import Head, Request

OF_ITS_OWN = frozenset({"header-names", "media", "framing", "json", "job-id"})
"""Dimensions in which a cancel is looked at itself; in the others it is the job that it names."""
OF_A_LIFE = frozenset({"turn", "after", "company"})
"""Dimensions in which any request can be looked at: a worker's life goes on between its jobs."""
SETTLES_S = 0.03
"""In which the proxy sees that a client has left who left before this request was sent."""


class Conditional(Defect):
    """Lies as `action` does where `level` holds; made by `under`."""

    action: ClassVar[type[Defect]]
    level: ClassVar[Level]

    def __init__(self) -> None:
        self.inner = self.action()
        self.life = Life()
        self.told: Scene | None = None
        """What was there when the first signal came."""
        self.tally: Any = None
        """Called with "met" where the condition holds and the lie is asked, with "acted" where it changed something."""

    def note(self, what: str) -> None:
        """Tell who counts."""
        if self.tally is not None:
            self.tally(what)

    def meets(self, scene: Scene | None) -> bool:
        """Whether the lie may be asked."""
        holds = scene is not None and self.level.holds(scene)
        if holds:
            self.note("met")
        return holds

    def noted(self, same: bool) -> None:
        """Count what the lie has changed."""
        if not same:
            self.note("acted")

    # ---- the process ----------------------------------------------------------------------------------------------

    async def arguments(self, argv: list[str]) -> list[str]:
        return await self.inner.arguments(argv)

    async def bound(self, public: socket) -> None:
        await self.inner.bound(public)

    async def before_start(self, proxy: Proxy) -> None:
        await self.inner.before_start(proxy)

    async def ready(self, proxy: Proxy) -> None:
        await self.inner.ready(proxy)

    def line(self, stream: str, text: str) -> list[str]:
        scene = self.life.of_line(text)
        if not self.meets(scene):
            return [text]
        lines = self.inner.line(stream, text)
        self.noted(lines == [text])
        return lines

    def lines_at_exit(self) -> list[str]:
        return self.inner.lines_at_exit()

    async def exit_code(self, code: int, *, ready: bool) -> int:
        if not self.meets(self.told):
            return code
        shown = await self.inner.exit_code(code, ready=ready)
        self.noted(shown == code)
        return shown

    async def signal(self, number: int, proxy: Proxy) -> bool:
        if self.told is None:
            self.told = self.life.now()
        if not self.meets(self.told):
            return True
        passed = await self.inner.signal(number, proxy)
        self.noted(passed)
        return passed

    # ---- a request ------------------------------------------------------------------------------------------------

    def scene_of(self, request: Request) -> Scene | None:
        """What the condition is asked of: the job, or for a cancel the job that it names; None for what is no job's."""
        scene, dimension = NOW.get(), self.level.dimension
        if is_execute(request) or dimension in OF_ITS_OWN:
            return scene
        return self.life.of_cancel(request) or (scene if dimension in OF_A_LIFE else None)

    def worker_of(self, request: Request) -> int:
        """Which worker serves it; lies with two workers say."""
        choose = getattr(self.inner, "worker_of", None)
        return choose(request) if choose is not None and self.meets(self.scene_of(request)) else 0

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        if self.level.dimension == "after" and self.life.house:
            await asyncio.sleep(SETTLES_S)
        self.life.came(request)
        if not self.meets(self.scene_of(request)):
            return request
        sent = await self.inner.request(request, proxy)
        self.noted(sent is request)
        if is_execute(request) and isinstance(sent, Answer):
            self.life.refused()
        return sent

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        scene = self.scene_of(request)
        holds = self.meets(scene)
        if is_execute(request):
            self.life.refused()
        if not holds:
            return answer
        before = (answer.head.status, tuple(answer.head.headers), answer.body)
        said = await self.inner.answer(request, answer, proxy)
        self.noted(before == (said.head.status, tuple(said.head.headers), said.body))
        return said

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self.meets(NOW.get()):
            return body
        said = self.inner.health(dict(body))
        self.noted(said == body)
        return said

    # ---- an event stream ------------------------------------------------------------------------------------------

    def stream_head(self, request: Request, head: Head) -> Head:
        scene = NOW.get()
        if scene is None or not self.meets(scene):
            return head
        before = tuple(head.headers)
        said = self.inner.stream_head(request, head)
        self.noted(before == tuple(said.headers))
        return said

    async def events(self, request: Request, events: AsyncIterator[Event], proxy: Proxy) -> AsyncIterator[Event]:
        scene = NOW.get()
        if scene is None:
            async for event in events:
                yield event
            return
        self.life.let_in(scene)
        watched = self.life.watched(scene, events)
        if type(self.inner).events is Defect.events:
            async for event in watched:
                for said in self.event(request, event):
                    yield said
            return
        held: list[Event] = []
        async for event in self.truth(watched, held):
            yield event
        if held:
            async for event in self.inner.events(request, followed(held[0], watched), proxy):
                yield event

    def event(self, request: Request, event: Event) -> list[Event]:
        if not self.meets(NOW.get()):
            return [event]
        before = event.encode()
        said = self.inner.event(request, event)
        self.noted(len(said) == 1 and said[0].encode() == before)
        return said

    async def encode(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        if type(self.inner).encode is Defect.encode:
            async for event in events:
                yield event.encode()
            return
        held: list[Event] = []
        async for event in self.truth(events, held):
            yield event.encode()
        if held:
            async for piece in self.inner.encode(request, followed(held[0], events)):
                yield piece

    async def truth(self, events: AsyncIterator[Event], held: list[Event]) -> AsyncIterator[Event]:
        """The events before the condition holds; the one at which it does goes to `held`, and the rest waits."""
        async for event in events:
            if self.meets(NOW.get()):
                self.note("acted")
                held.append(event)
                return
            yield event

    async def after_stream(self, request: Request, proxy: Proxy) -> None:
        if self.meets(NOW.get()):
            await self.inner.after_stream(request, proxy)

    def client_left(self, request: Request) -> bool:
        scene = NOW.get()
        if scene is not None:
            self.life.ended(scene, "disconnect")
        return self.inner.client_left(request) if self.meets(scene) else True


async def followed(first: Event, rest: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """One event, and those that come after it."""
    yield first
    async for event in rest:
        yield event


def under(action: type[Defect], level: Level) -> type[Conditional]:
    """The conditional defect of an action and a level."""
    clauses = tuple(clause for clause in level.clauses if clause not in action.kills)
    return type(
        action.__name__,
        (Conditional,),
        {
            "__module__": action.__module__,
            "file": action.place(),
            "name": f"{action.name}@{level}",
            "about": f"{action.about} Only where this holds: {level.about[0].lower()}{level.about[1:]}",
            "kills": action.kills,
            "collateral": action.collateral,
            "source": action.source,
            "crashes": action.crashes,
            "workers": action.workers,
            "condition": str(level),
            "of_condition": clauses,
            "action": action,
            "level": level,
        },
    )
