"""Workers that are unusual and conform: nothing about them may be red.

`watch` names clauses whose checks must see the oddity, besides the sentinels that see everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.lie import lie

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.http import Request

STREAMS = (
    "M0-W-1362/text-exact", "M0-W-1824/no-replacement", "M0-W-1311/no-tokens", "M0-W-1422/across-tokens",
    "M0-SYS-2.3.1/greedy-repeat", "M0-W-1330/idempotent", "M0-W-1301/second-answered", "M0-W-1300/max-tokens-bound",
)  # fmt: skip
REQUESTS = ("M0-W-1302/wrong-types", "M0-W-1300/top-k-range", "M0-W-1302/unknown-path", "M0-W-1330/validates-body")
MEETINGS = (
    "M0-W-1301/second-answered", "M0-W-1301/duplicate-active", "M0-W-1301/after-disconnect", "M0-W-1330/waiting-job",
    "M0-W-1330/unknown-job", "M0-W-1330/finished-job", "M0-W-1330/idempotent",
)  # fmt: skip
HEALTH = ("M0-W-1320/status", "M0-W-1001/model-constant")


class Oddity(Defect):
    """Kills nothing."""

    oddity = True
    watch: ClassVar[tuple[str, ...]] = STREAMS


odd_request = lie("request", Oddity)
odd_head = lie("stream_head", Oddity)
odd_event = lie("event", Oddity)
odd_bytes = lie("encode", Oddity)
odd_answer = lie("answer", Oddity)


class Bytes(Oddity):
    """Writes events in another form."""

    def form(self, event: Event) -> bytes:
        """The bytes of one event."""
        raise NotImplementedError

    async def encode(self, request: Request, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        async for event in events:
            yield self.form(event)


odd_form = lie("form", Bytes)
