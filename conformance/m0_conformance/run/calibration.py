"""What the doctor learns of a worker before anything is judged: which requests it serves, how fast, in which letters.

Checks use it to ask in the form that this worker takes, to choose lengths that fit its pace, and to read its text;
none of it is a verdict. Everything stands in the settings of each recording, so that judges know it, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from m0_conformance.judging.rendering import PLAIN, Rendering, detect

if TYPE_CHECKING:
    from m0_conformance.judging.streams import Stream
    from m0_conformance.recording.transcript import Json

TELLING_S: Final = 0.2
"""A job shorter than this may arrive in one piece from any worker."""
TOKENS: Final = 12
"""Of the job that is measured."""
FORMS: Final[tuple[dict[str, Any], ...]] = (
    {"max_tokens": 64, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "seed": 1},
    {"max_tokens": 64, "temperature": 1.0, "seed": 1},
    {"max_tokens": 64},
    {},
)
"""What is spelled out in a request, from all six numbers, which a worker without defaults needs, down to nothing."""


@dataclass(slots=True)
class Calibration:
    """How to ask this worker, and what to expect of its pace."""

    hurry: float = 1.0
    """How much shorter than usual the jobs are that only have to last a while (--fast)."""
    form: dict[str, Any] = field(default_factory=dict)
    """Fields that every request carries unless a check says otherwise."""
    rendering: Rendering = PLAIN
    cancels: bool = True
    """There is a POST /cancel: a body without a job_id is not answered like a path that does not exist."""
    load_s: float | None = None
    """From the start of the process to the first answer of /health."""
    first_s: float = 0.0
    """From a request to its first token."""
    token_s: float = 0.0
    """Between two tokens; where all come together, the whole time shared out among them."""
    seen_together: bool = False
    """All tokens came at the end of the measured jobs."""
    settled: bool = False
    """The pace rests on a job that took long enough to show it."""
    unserved: frozenset[tuple[str, str]] | None = None
    """Forms of requests that are not taken (see `conditions.rounds`); None while nobody has looked."""
    says_script: bool = False
    """It says what the probe promises, so that prompts and sampling may vary."""
    _late: int = 0

    @property
    def together(self) -> bool:
        """This worker sends all tokens of a job at its end."""
        return self.seen_together and self.settled

    def seconds(self, tokens: int) -> float:
        """About how long a job of so many tokens takes."""
        return self.first_s * (not self.together) + tokens * self.token_s

    def tokens_in(self, seconds: float) -> int:
        """About how many tokens a job makes in so long."""
        return int(max(0.0, seconds / self.hurry - self.first_s * (not self.together)) / max(self.token_s, 1e-6))

    def shorter(self, usual: int, least: int, seconds: float) -> int:
        """So many tokens as usual, or what fits into so many seconds, but not fewer than the least that tell."""
        return max(least, min(usual, self.tokens_in(seconds)))

    def as_json(self) -> dict[str, Json]:
        """For a recording's settings."""
        return {
            "load_s": self.load_s,
            "first_s": round(self.first_s, 4),
            "token_s": round(self.token_s, 5),
            "together": self.together,
            "form": sorted(self.form),
            "cancels": self.cancels,
        }

    def measure(self, stream: Stream) -> None:
        """Take the pace from a job that came to its end."""
        terminal, tokens = stream.terminal, stream.tokens
        if terminal is None or not tokens:
            return
        told = terminal.data.get("tokens_out")
        count = max(len(tokens), told if isinstance(told, int) and not isinstance(told, bool) else 0)
        self.seen_together = tokens[0].at > 0.5 * terminal.at
        long_enough = terminal.at >= TELLING_S
        self._late += self.seen_together and long_enough
        # One long job whose tokens came late may be a busy machine's doing; one whose tokens came early settles it.
        self.settled = long_enough and (not self.seen_together or self._late > 1)
        self.first_s = tokens[0].at
        if self.seen_together:
            self.token_s = terminal.at / count
        else:
            self.token_s = (terminal.at - tokens[0].at) / max(count - 1, 1)

    def read(self, stream: Stream, prompt: str, probe: dict[str, Any] | None) -> None:
        """Find out how its text is written; on a probe of ours the tokens are known."""
        script = ((probe or {}).get("scripts") or {}).get(prompt) or {}
        pieces = [bytes.fromhex(token) for token in (*script.get("tokens", ()), *script.get("cycle", ()))]
        self.rendering = detect(stream.sent, prompt, pieces[: len(stream.sent)])
        promised = b"".join(pieces[:TOKENS]).decode(errors="replace")
        self.says_script = bool(pieces) and len(stream.text) > 1 and promised.startswith(stream.text)
