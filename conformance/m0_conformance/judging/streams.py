"""A recorded exchange as a stream of M0 events, normalized so that one framing defect is not reported by every judge.

Reading `E-FRAME`: the `event:` line names the type. A stream that names it only in the JSON key `type`, or ends in the
literal `[DONE]`, speaks a known other dialect; the framing judge says so once and everything else reads the events
through this view.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from m0_conformance.contract.strict_json import ParsedJson, parse_json
from m0_conformance.judging.rendering import read_back, rendering_of
from m0_conformance.recording.sse import SseEvent, SseParse, parse_sse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.recording.transcript import Exchange, Json, Recording

_MEMO: ContextVar[dict[int, tuple[SseParse, list[Event]]] | None] = ContextVar("parsed streams", default=None)
_JUDGED: ContextVar[Recording | None] = ContextVar("the recording that is being judged", default=None)
TERMINAL = frozenset({"end", "error"})
KINDS = frozenset({"started", "token", "metrics", "end", "error"})
Dialect: TypeAlias = Literal["named", "json-type", "unnamed", "silent"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream."""

    index: int
    kind: str
    """Name from the `event:` line, else from JSON key `type`; "" when neither names it; "[DONE]" for that literal."""
    named: bool
    """The `event:` line named it."""
    data: dict[str, Json]
    """Payload; empty when it is no JSON object (`json` tells why)."""
    json: ParsedJson
    at: float
    """Arrival of its last byte, seconds since the exchange began."""
    raw: SseEvent

    @property
    def byte(self) -> int:
        """Offset of its first byte in the body."""
        return self.raw.byte

    @property
    def text(self) -> str:
        """Its lines as one line of text, bytes that are no UTF-8 escaped."""
        return "   ".join(line.raw.decode("utf-8", "backslashreplace") for line in self.raw.lines)


@dataclass(eq=False)
class Stream:
    """One /execute exchange that was answered with status 200."""

    exchange: Exchange
    recording: Recording | None
    sse: SseParse
    events: list[Event] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """The server ended the body, so that absences may be judged."""
        return self.exchange.end == "eof"

    @property
    def cut_by_server(self) -> bool:
        """The connection broke in the middle although nobody on our side hung up."""
        return self.exchange.end in {"reset", "garbage"}

    @property
    def request(self) -> dict[str, Json]:
        """Request body; empty when it was no JSON object."""
        value = self.exchange.request_json()
        return value if isinstance(value, dict) else {}

    def of(self, *kinds: str) -> list[Event]:
        """Events of these kinds, in order."""
        return [event for event in self.events if event.kind in kinds]

    @property
    def started(self) -> Event | None:
        """First started event."""
        return next(iter(self.of("started")), None)

    @property
    def tokens(self) -> list[Event]:
        """All token events."""
        return self.of("token")

    @property
    def terminals(self) -> list[Event]:
        """All end and error events."""
        return self.of("end", "error")

    @property
    def terminal(self) -> Event | None:
        """First terminal event."""
        return next(iter(self.terminals), None)

    @property
    def sent(self) -> list[str]:
        """`t` of every token event, "" where it is no string."""
        return [t if isinstance(t := event.data.get("t"), str) else "" for event in self.tokens]

    @property
    def pieces(self) -> list[str]:
        """What the tokens spell: `t` of every token event, read back where this worker writes them another way."""
        return read_back(self.sent, rendering_of(self.recording or _JUDGED.get()))

    @property
    def text(self) -> str:
        """All pieces joined."""
        return "".join(self.pieces)

    @property
    def dialect(self) -> Dialect:
        """How types are named: by `event:` lines, only by the JSON key `type`, not at all; "silent" without events."""
        if not self.events:
            return "silent"
        if any(event.named for event in self.events):
            return "named"
        if any(event.kind for event in self.events):
            return "json-type"
        return "unnamed"


def build_events(exchange: Exchange, sse: SseParse) -> list[Event]:
    """Normalize every parsed event; a fragment at a place where the connection broke is none."""
    ends = list(accumulate(len(chunk.data) for chunk in exchange.chunks))
    last = len(ends) - 1
    return [
        make_event(raw, exchange.chunks[min(bisect_right(ends, raw.end), last)].at)
        for raw in sse.events
        if raw.terminated or exchange.end == "eof"
    ]


def make_event(raw: SseEvent, at: float) -> Event:
    """Normalize one event: see the module docstring."""
    if raw.data is not None and raw.data.strip() == b"[DONE]":
        return Event(raw.index, "[DONE]", raw.name is not None, {}, ParsedJson(None, ()), at, raw)
    parsed = parse_json(raw.data) if raw.data is not None else ParsedJson(None, ("no data",))
    data = parsed.value if isinstance(parsed.value, dict) else {}
    kind = raw.name or ""
    if not kind and isinstance(named := data.get("type"), str):
        kind = named
    return Event(raw.index, kind, bool(raw.name), data, parsed, at, raw)


def stream_of(exchange: Exchange, recording: Recording | None = None) -> Stream:
    """View any exchange as a stream."""
    memo = _MEMO.get()
    if memo is None:
        sse = parse_sse(exchange.body)
        return Stream(exchange, recording, sse, build_events(exchange, sse))
    if id(exchange) not in memo:
        sse = parse_sse(exchange.body)
        memo[id(exchange)] = sse, build_events(exchange, sse)
    return Stream(exchange, recording, *memo[id(exchange)])


@contextmanager
def parsed_once(recording: Recording) -> Iterator[None]:
    """Inside, each exchange is parsed once however many judges look at it; none of them may grow meanwhile.

    A stream is read as the worker of this recording writes its text, whichever way a judge came by it.
    """
    token, judged = _MEMO.set({}), _JUDGED.set(recording)
    try:
        yield
    finally:
        _MEMO.reset(token)
        _JUDGED.reset(judged)


def is_execute(exchange: Exchange) -> bool:
    """A POST to /execute."""
    return exchange.method == "POST" and exchange.path.split("?")[0] == "/execute"


class _Parsed:
    """The streams of the recording that is being judged: some thirty judges ask for the same ones."""

    recording: Recording | None = None
    streams: ClassVar[dict[int, tuple[int, Stream]]] = {}

    @classmethod
    def get(cls, exchange: Exchange, recording: Recording) -> Stream:
        if cls.recording is not recording:
            cls.recording = recording
            cls.streams.clear()
        length = sum(len(chunk.data) for chunk in exchange.chunks)
        known = cls.streams.get(id(exchange))
        if known is None or known[0] != length or known[1].exchange is not exchange:
            known = cls.streams[id(exchange)] = (length, stream_of(exchange, recording))
        return known[1]


def streams(recording: Recording, label: str | None = None) -> Iterator[Stream]:
    """Every accepted /execute exchange (status 200), or those of one label, as streams."""
    for exchange in recording.exchanges:
        if is_execute(exchange) and exchange.status == 200 and label in {None, exchange.label}:
            yield _Parsed.get(exchange, recording)


READS_OF_THE_PAST = 2
"""Reads that what a worker wrote before a moment can take after it: on one host all of it lies in the kernel by then,
and the read under way and the next one bring it. What comes in later reads was written later, however slow we are."""
CROSSING_S = 0.05
"""Between hosts two connections keep no order: there, what comes so soon after a moment may have been sent before."""


def written_after(stream: Stream, moment: float, at: float, *, in_flight: int = 0) -> bool:
    """Whether what arrived at `at` was surely sent after `moment`; both are seconds on the stream's own clock.

    `in_flight`: writes that were already decided on at that moment.
    """
    reads = sorted({chunk.at for chunk in stream.exchange.chunks if moment < chunk.at <= at})
    near = stream.exchange.host.startswith(("127.", "localhost:", "[::1]:"))
    return len(reads) > READS_OF_THE_PAST + in_flight and (near or at > moment + CROSSING_S)


def together(recording: Recording | None) -> bool:
    """This worker sends all tokens at the end of a job, as the doctor saw: when they came tells nothing."""
    return pace(recording).get("together") is True


def pace(recording: Recording | None) -> dict[str, Json]:
    """What the doctor measured of the worker of a recording."""
    value = None if recording is None else recording.settings.get("pace")
    return value if isinstance(value, dict) else {}


def alone_s(stream: Stream) -> float:
    """How long the same job takes alone: as this recording shows it, else by the worker's pace; 0.0 when unknown."""
    recording, wanted = stream.recording, {**stream.request, "job_id": None}
    if recording is None:
        return 0.0
    seen = [
        other.terminal.at - (other.exchange.sent_at or 0.0)
        for other in streams(recording)
        if other.exchange is not stream.exchange
        and {**other.request, "job_id": None} == wanted
        and other.terminal is not None
        and other.terminal.kind == "end"
    ]
    if seen:
        return min(seen)
    asked, each = stream.request.get("max_tokens"), pace(recording).get("token_s")
    return asked * each if isinstance(asked, int) and isinstance(each, float) else 0.0


SURELY_BEGUN, SURELY_NOT_OVER = 0.1, 0.7
"""Shares of the time that a job takes alone, between which it surely runs although none of its tokens has come."""


NEAR_S = 0.1
"""So shortly before its usual end a job may be over, whatever its length."""


def runs_at(stream: Stream, at: float) -> bool:
    """Whether a job surely ran at a moment on its own clock: its tokens say so, or how long it takes alone."""
    terminal = stream.terminal
    if terminal is not None and terminal.at <= at:
        return False
    if not together(stream.recording):
        return any(token.at < at for token in stream.tokens)
    whole, since = alone_s(stream), at - (stream.exchange.sent_at or 0.0)
    return SURELY_BEGUN * whole < since < min(SURELY_NOT_OVER * whole, whole - NEAR_S)


def describe(exchange: Exchange) -> str:
    """One line for a report: status, content type, first bytes of the body, how it ended."""
    if exchange.status is None:
        return f"no HTTP answer ({exchange.end}{': ' + exchange.error if exchange.error else ''})"
    body = exchange.body[:160].decode("utf-8", "backslashreplace").replace("\n", "\\n")
    words = f"HTTP {exchange.status}, {exchange.content_type or 'no content type'}, body {body!r}"
    return words if exchange.end == "eof" else f"{words}, ended by {exchange.end}"


def lifetime(stream: Stream) -> tuple[float, float] | None:
    """From the first to the terminal (else the last) event, on the recording's clock."""
    if not stream.events:
        return None
    first, last = stream.events[0], stream.terminal or stream.events[-1]
    return stream.exchange.t0 + first.at, stream.exchange.t0 + last.at
