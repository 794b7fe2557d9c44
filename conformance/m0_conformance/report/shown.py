"""One recording as rows and facts: what the page lists and what the timeline draws, cut where it is long.

An event, a read or a log line is a row; rows around a place in question are kept, every gap is counted. Texts are
redacted and spelled out only for rows that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from m0_conformance.judging.streams import stream_of
from m0_conformance.recording.redact import redact, redact_headers
from m0_conformance.recording.transcript import Exchange, Launch, Recording
from m0_conformance.report.text import duration, one_line, size, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BODY_LIMIT = 2_000
"""Characters of a request body or of a plain response that are embedded."""
ROW_LIMIT = 300
"""Characters of one event or log line."""
_HEAD, _AROUND, _TAIL = 10, 8, 6
_WORTH_NAMING = 0.02
"""Silences shorter than this many seconds are not mentioned."""


@dataclass(frozen=True, slots=True)
class Row:
    """One event, body chunk or log line."""

    number: int
    at: float
    """Seconds since the exchange's or process's start."""
    kind: str = ""
    """Size of a read, stream of a log line; '' for an event, whose text names it."""
    text: str = ""
    byte: int | None = None
    """Offset in the body."""
    skipped: int = 0
    """Rows left out before this one."""

    @property
    def columns(self) -> str:
        """Number, arrival, byte offset and kind in columns of fixed width."""
        byte = "" if self.byte is None else f"{self.byte:>8,}"
        return f"{self.number:>5}{self.at * 1e3:>12,.1f} ms{byte}  {self.kind:<10}".rstrip() + "  "


@dataclass(slots=True)
class Shown:
    """One exchange or one process, ready to be drawn and listed."""

    anchor: str
    """Unique in the page."""
    key: str
    """Exchange id or launch label."""
    title: str
    subtitle: str
    is_launch: bool
    start: float
    """On the recording's clock, seconds."""
    end: float
    arrivals: list[float] = field(default_factory=list)
    """Of events (or chunks, or log lines) since `start`, seconds, ascending."""
    noun: str = "event"
    marks: list[tuple[float, str]] = field(default_factory=list)
    """Moments with a name: headers, ready, SIGTERM, exit."""
    facts: list[str] = field(default_factory=list)
    request: list[str] = field(default_factory=list)
    response: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    rows_after: int = 0
    """Rows left out after the last one."""

    @property
    def span(self) -> float:
        """Seconds from start to end."""
        return max(self.end - self.start, 0.0)


@dataclass(slots=True)
class ShownRecording:
    """One recording as the page holds it."""

    sha: str
    check: str
    outcome: str
    note: str
    parts: list[Shown]
    background: list[Shown]
    """Exchanges and processes that are not embedded: only their names and times, for the drawing."""

    @property
    def anchor(self) -> str:
        """Id of its place in the page."""
        return f"r-{self.sha[:12]}"

    def part(self, key: str | None, *, launch: bool = False) -> Shown | None:
        """The exchange of this id, or the launch of this label."""
        return next((part for part in self.parts if part.key == key and part.is_launch == launch), None)


def show_recording(recording: Recording, sha: str, places: dict[str, set[int]], limit: int) -> ShownRecording:
    """The parts of a recording worth showing: those in question, then those at the same time, then the rest."""
    everything: list[Exchange | Launch] = [*recording.exchanges, *recording.launches]
    focus = [item for item in everything if _key(item) in places]

    def rank(index: int) -> tuple[int, int]:
        item = everything[index]
        return (0 if _key(item) in places else 1 if any(_overlap(item, other) for other in focus) else 2), index

    chosen = set(sorted(range(len(everything)), key=rank)[:limit])
    return ShownRecording(
        sha=sha,
        check=one_line(recording.check, 200),
        outcome=recording.outcome,
        note=one_line(redact(recording.note), 400),
        parts=[
            _show(item, f"{sha[:12]}-{index}", places.get(_key(item), set()))
            for index, item in enumerate(everything)
            if index in chosen
        ],
        background=[_outline(item) for index, item in enumerate(everything) if index not in chosen],
    )


def _key(item: Exchange | Launch) -> str:
    return item.id if isinstance(item, Exchange) else item.label


def _bounds(item: Exchange | Launch) -> tuple[float, float]:
    if isinstance(item, Exchange):
        last = max([item.closed_at or 0.0, item.head_at or 0.0, item.sent_at or 0.0, *(c.at for c in item.chunks[-1:])])
    else:
        last = max([item.exited_at or 0.0, item.ready_at or 0.0, *(line.at for line in item.lines[-1:])])
        last = max([last, *(at for _, at in item.signals)])
    return item.t0, item.t0 + last


def _overlap(one: Exchange | Launch, other: Exchange | Launch) -> bool:
    (a, b), (c, d) = _bounds(one), _bounds(other)
    return a <= d and c <= b


def _show(item: Exchange | Launch, anchor: str, events: set[int]) -> Shown:
    return _show_exchange(item, anchor, events) if isinstance(item, Exchange) else _show_launch(item, anchor, events)


def _outline(item: Exchange | Launch) -> Shown:
    """Name and times only."""
    start, end = _bounds(item)
    launch = isinstance(item, Launch)
    title = "worker process" if isinstance(item, Launch) else one_line(f"{item.method} {redact(item.path)}", 120)
    arrivals = [line.at for line in item.lines] if isinstance(item, Launch) else [chunk.at for chunk in item.chunks]
    return Shown("", _key(item), title, one_line(item.label, 80), launch, start, end, arrivals)


def _show_exchange(x: Exchange, anchor: str, events: set[int]) -> Shown:
    start, end = _bounds(x)
    rows, noun, text_of = _body_rows(x)
    picked, after = pick_rows(rows, events)
    answer = f"{x.status} {x.reason}".strip() if x.status is not None else f"no answer: {x.end}"
    facts = [answer]
    if x.chunks:
        facts.append(f"{size(len(x.body))} in {len(x.chunks):,} read" + ("s" if len(x.chunks) != 1 else ""))
    if x.end != "eof":
        facts.append(f"ended by {x.end}" + (f": {one_line(redact(x.error), 200)}" if x.error else ""))
    shown = Shown(
        anchor=f"x-{anchor}",
        key=x.id,
        title=one_line(f"{x.method} {redact(x.path)}", 120),
        subtitle=one_line(x.label, 80),
        is_launch=False,
        start=start,
        end=end,
        arrivals=[row.at for row in rows],
        noun=noun,
        facts=[*facts, *rhythm([row.at for row in rows], end - start, noun)],
        request=_request_lines(x),
        response=_response_lines(x),
        rows=_with_texts(picked, text_of),
        rows_after=after,
    )
    shown.marks = [(x.head_at, "headers")] if x.head_at is not None else []
    return shown


def _body_rows(x: Exchange) -> tuple[list[Row], str, Callable[[int], str]]:
    """Rows without text, what one is called, and where to get the text of one."""
    if x.content_type == "text/event-stream" and x.chunks:
        events = stream_of(x).events
        if events:
            return [Row(event.index, event.at, byte=event.byte) for event in events], "event", lambda n: events[n].text
    starts = accumulate((len(chunk.data) for chunk in x.chunks), initial=0)
    rows = [
        Row(number, chunk.at, size(len(chunk.data)), byte=start)
        for number, (chunk, start) in enumerate(zip(x.chunks, starts, strict=False))
    ]
    return rows, "read", lambda n: x.chunks[n].data[: ROW_LIMIT * 4].decode("utf-8", "backslashreplace")


def _with_texts(rows: list[Row], text_of: Callable[[int], str]) -> list[Row]:
    return [replace(row, text=one_line(redact(text_of(row.number)), ROW_LIMIT)) for row in rows]


def _request_lines(x: Exchange) -> list[str]:
    lines = [one_line(f"{x.method} {redact(x.path)}", 300)]
    lines += [one_line(f"{name}: {value}", 300) for name, value in redact_headers(x.request_headers)]
    if x.request_body:
        text = redact(x.request_body[: BODY_LIMIT * 4].decode("utf-8", "backslashreplace"))
        lines += ["", visible(text[:BODY_LIMIT])]
        if len(text) > BODY_LIMIT or len(x.request_body) > BODY_LIMIT * 4:
            lines.append(f"[truncated: {size(len(x.request_body))} in all]")
    return lines


def _response_lines(x: Exchange) -> list[str]:
    if x.status is None:
        return [visible(redact(x.head[:BODY_LIMIT].decode("utf-8", "backslashreplace")))] if x.head else []
    lines = [one_line(f"HTTP/{x.http_version.removeprefix('HTTP/')} {x.status} {x.reason}".rstrip(), 200)]
    return lines + [one_line(f"{name}: {value}", 300) for name, value in redact_headers(x.headers)]


def _show_launch(launch: Launch, anchor: str, events: set[int]) -> Shown:
    start, end = _bounds(launch)
    picked, after = pick_rows([Row(n, line.at, line.stream) for n, line in enumerate(launch.lines)], events)
    facts = []
    if launch.ready_at is not None:
        facts.append(f"ready after {duration(launch.ready_at)}")
    if launch.exit_code is not None:
        when = f" after {duration(launch.exited_at)}" if launch.exited_at is not None else ""
        facts.append(f"exit code {launch.exit_code}{when}")
    else:
        facts.append("still running at the end of the check")
    if launch.dropped_lines:
        facts.append(f"[truncated: {launch.dropped_lines:,} log lines forgotten by the ring buffer]")
    marks = [(launch.ready_at, "ready")] if launch.ready_at is not None else []
    marks += [(at, name) for name, at in launch.signals]
    if launch.exited_at is not None:
        marks.append((launch.exited_at, f"exit {launch.exit_code}"))
    return Shown(
        anchor=f"l-{anchor}",
        key=launch.label,
        title="worker process",
        subtitle=one_line(launch.label, 80),
        is_launch=True,
        start=start,
        end=end,
        arrivals=[line.at for line in launch.lines],
        noun="log line",
        marks=marks,
        facts=facts,
        request=[one_line(redact(" ".join(launch.argv)), 600)]
        + [one_line(redact(f"{name}={value}"), 200) for name, value in launch.env.items()],
        rows=_with_texts(picked, lambda n: launch.lines[n].text),
        rows_after=after,
    )


def pick_rows(rows: list[Row], events: Iterable[int]) -> tuple[list[Row], int]:
    """The first rows, those around `events` and the last; a gap is counted in the row after it, the rest returned."""
    keep = {*range(_HEAD), *range(len(rows) - _TAIL, len(rows))}
    for event in events:
        keep.update(range(event - _AROUND, event + _AROUND + 1))
    picked: list[Row] = []
    before = -1
    for index in sorted(number for number in keep if 0 <= number < len(rows)):
        row = rows[index]
        gap = index - before - 1
        picked.append(replace(row, skipped=gap) if gap else row)
        before = index
    return picked, len(rows) - 1 - before


def rhythm(arrivals: list[float], span: float, noun: str) -> list[str]:
    """How a stream came, in words: first arrival, longest silence, and whether everything came in one burst."""
    if not arrivals:
        return []
    found = [f"first {noun} after {duration(arrivals[0])}"]
    gaps = [later - earlier for earlier, later in pairwise(arrivals)]
    if len(arrivals) >= 3:
        longest = max(range(len(gaps)), key=gaps.__getitem__)
        burst = arrivals[-1] - arrivals[0]
        if span > 0.05 and burst < 0.1 * span and arrivals[0] > 0.5 * span:
            found.append(f"all {len(arrivals):,} {noun}s within {duration(burst)}, after the wait")
        elif gaps[longest] >= _WORTH_NAMING:
            found.append(f"longest silence {duration(gaps[longest])}, before {noun} {longest + 1}")
    return found
