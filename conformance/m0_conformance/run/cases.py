"""Cases of one request each, with what is expected of it noted for the judges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from m0_conformance.run.situation import OMIT, Situation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m0_conformance.recording.transcript import Json


JSON_TYPE = ("Content-Type", "application/json")
STARTS_S = 20.0
"""A legal job of unknown length is left as soon as it has ended or shown that it was accepted."""


@dataclass
class Cases:
    """Sends variants of a job and notes what is expected of each (see `judging/answers.py`)."""

    situation: Situation
    noted: dict[str, Json] = field(default_factory=dict)

    def expect(self, label: str, clause: str, want: str, kind: str, name: str = "") -> None:
        """Note an expectation."""
        self.noted[label] = {"clause": clause, "want": want, "kind": kind, "field": name}
        self.situation.fact("cases", self.noted)

    async def job(
        self, label: str, clause: str, want: str, *, kind: str = "value", name: str = "", **fields: Any
    ) -> None:
        """One job with these fields; one that is accepted is left after its first token."""
        self.expect(label, clause, want, kind, name)
        fields.setdefault("max_tokens", 1)
        fields.setdefault("prompt", self.situation.prompt("eos"))
        if "job_id" in fields or fields["prompt"] is OMIT:  # `start` would put its own instead of a missing one
            body = {"job_id": "by hand", **self.situation.pace.form, **fields}
            body = {key: value for key, value in body.items() if value is not OMIT}
            await self.situation.post(label, "/execute", body)
            return
        await self.situation.meet()
        live = self.situation.start(label, **fields)
        if await live.live.wait(lambda: live.count("token", "end", "error") > 0, STARTS_S * self.situation.scale):
            if not await live.terminal(1.0):
                await live.hang_up()
                await self.situation.cancel("tidy up", live.job_id)
        else:
            await live.done()

    async def raw(self, label: str, clause: str, want: str, kind: str, body: bytes, *, name: str = "") -> None:
        """One POST /execute with these bytes."""
        self.expect(label, clause, want, kind, name)
        await self.situation.post(label, "/execute", body=body, headers=[JSON_TYPE])

    async def sides(
        self,
        name: str,
        clause: str,
        *,
        legal: Sequence[Any] = (),
        illegal: Sequence[Any] = (),
        edge: Sequence[Any] = (),
    ) -> None:
        """Values of one field on both sides of its limits; `edge`: illegal, in single precision the limit itself."""
        for value in legal:
            await self.job(f"{name} {value}", clause, "accept", name=name, **{name: value})
        for value in illegal:
            await self.job(f"{name} {value}", clause, "refuse", name=name, **{name: value})
        for value in edge:
            await self.job(f"{name} {value}", clause, "edge", name=name, **{name: value})
