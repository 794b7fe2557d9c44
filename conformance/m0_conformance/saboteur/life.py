"""A worker's life as the proxy before it sees it: who came, who is in the house, how each job ended."""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import TYPE_CHECKING

from m0_conformance.conditions import Past, Scene
from m0_conformance.saboteur.lies import is_cancel, is_execute, job_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Event
    from m0_conformance.saboteur.http import Request

NOW: ContextVar[Scene | None] = ContextVar("scene", default=None)
"""The request that is being served: each has a context of its own."""


class Life:
    """What is known of one worker process."""

    def __init__(self) -> None:
        self.past = Past()
        self.house: list[Scene] = []
        """Jobs that have been let in and have not ended."""
        self.named: dict[str, Scene] = {}
        """Jobs by job_id, the latest of each."""

    def now(self) -> Scene:
        """What a request without a body would see."""
        past = Past(self.past.jobs, self.past.last, self.past.ids)
        return Scene(past=past, ahead=len(self.house), behind=max(0, len(self.house) - 1))

    def came(self, request: Request) -> Scene:
        """A request has come."""
        scene = self.now()
        scene.headers, scene.body = request.headers, request.body
        scene.pieces, scene.on_connection = request.pieces, request.on_connection
        scene.behind = 0
        NOW.set(scene)
        if is_execute(request):
            self.named[job_of(request)] = scene
        return scene

    def of_cancel(self, request: Request) -> Scene | None:
        """The job that a cancel names; None for any other request, and for a job that never came."""
        return self.named.get(job_of(request)) if is_cancel(request) else None

    def let_in(self, scene: Scene) -> None:
        """The worker has taken the job."""
        self.past.jobs += 1
        self.past.ids += (scene.text_of("job_id"),)
        self.house.append(scene)
        for place, other in enumerate(self.house):
            other.behind = max(other.behind, len(self.house) - 1 - place)

    def ended(self, scene: Scene, how: str) -> None:
        """A job has ended, if that is news."""
        if any(one is scene for one in self.house):
            self.house = [one for one in self.house if one is not scene]
            self.past.last = how

    def refused(self) -> None:
        """A job was refused."""
        self.past.last = "refusal"

    async def watched(self, scene: Scene, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        """The events of a job, noted one by one before anybody else sees them."""
        try:
            async for event in events:
                if event.name == "started" and scene.ahead:
                    scene.past.last = self.past.last
                scene.said = str(event.data.get("t", "")) if event.name == "token" else None
                if event.terminal:
                    self.ended(scene, how_it_ended(scene, event))
                yield event
                scene.tokens += event.name == "token"
        finally:
            self.ended(scene, "disconnect")

    def of_line(self, text: str) -> Scene | None:
        """The job that a line of the log names; None when it names none."""
        if not text.startswith("{"):
            return None
        try:
            event = json.loads(text)
        except ValueError:
            return None
        job = event.get("job_id") if isinstance(event, dict) else None
        return self.named.get(job) if isinstance(job, str) else None


def how_it_ended(scene: Scene, event: Event) -> str:
    """In one word, for the jobs that follow."""
    if event.name == "error":
        return "cancel" if event.data.get("code") == "CANCELLED" else "error"
    stopped = scene.job.get("stop") and event.data.get("tokens_out") != scene.job.get("max_tokens")
    return "stop" if stopped else "end"
