"""The registry of judges, the words they speak in, and the one function that runs them all on a recording."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from m0_conformance.judging.finding import Finding, Place, Status
from m0_conformance.judging.launches import how_it_went
from m0_conformance.judging.silence import seen_instead
from m0_conformance.judging.streams import Event, Stream, describe, parsed_once, streams
from m0_conformance.recording.transcript import Exchange, Launch, Recording

Subject: TypeAlias = Stream | Exchange | Launch | Recording
Scope: TypeAlias = Literal["stream", "exchange", "launch", "recording"]
JudgeFunction: TypeAlias = Callable[[Recording], Iterable[Finding]]
_F = TypeVar("_F", bound=Callable[..., Iterable[Finding]])
AREAS = "m0_conformance.areas"
CONTEXT_LINES = 2
"""Events shown before and after the one in question."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A registered function and the clauses it may speak about; the first is the default."""

    name: str
    clauses: tuple[str, ...]
    function: Callable[..., Iterable[Finding]]
    scope: Scope


JUDGES: list[Judge] = []
"""Run on recordings of checks that name one of their clauses."""
INVARIANTS: list[Judge] = []
"""Run on every recording."""


def judge(*clauses: str) -> Callable[[_F], _F]:
    """Register a function from `Recording` to findings as judge of these clauses."""

    def register(function: _F) -> _F:
        JUDGES.append(Judge(_name(function), clauses, function, "recording"))
        return function

    return register


def invariant(*clauses: str, on: Scope = "stream") -> Callable[[_F], _F]:
    """Register a function that runs on every stream (or exchange, launch, recording) of every recording.

    With `on="stream"` it gets a `Stream`; with "exchange" and "launch" it gets (that, the recording); with "recording"
    the recording.
    """

    def register(function: _F) -> _F:
        INVARIANTS.append(Judge(_name(function), clauses, function, on))
        return function

    return register


def _name(function: Callable[..., Any]) -> str:
    """Area and function, as "requests.prompt_unit"."""
    return f"{function.__module__.removeprefix(f'{AREAS}.').removesuffix('.judge')}.{function.__name__}"


def load_all() -> None:
    """Import the judge.py of every area, so that all judges are registered."""
    package = importlib.import_module(AREAS)
    for module in pkgutil.walk_packages(package.__path__, f"{AREAS}."):
        if module.name.endswith(".judge"):
            importlib.import_module(module.name)


def judged_clauses() -> frozenset[str]:
    """Every clause some judge or invariant speaks about."""
    return frozenset(clause for entry in (*JUDGES, *INVARIANTS) for clause in entry.clauses)


# ---- words of a judge ---------------------------------------------------------------------------------------------


def _evidence(subject: Subject) -> tuple[tuple[str, ...], int]:
    """Ids of what was looked at, and how many events or lines it holds."""
    if isinstance(subject, Stream):
        return (subject.exchange.id,), len(subject.events)
    if isinstance(subject, Exchange):
        return (subject.id,), 0
    if isinstance(subject, Launch):
        return (f"launch:{subject.label}",), len(subject.lines)
    return tuple(exchange.id for exchange in subject.exchanges), 0


def _place(subject: Subject, at: Event | int | None, t: float | None) -> tuple[Place | None, tuple[str, ...]]:
    """Where, and the lines around it. `at`: an event or a body byte; `t`: seconds since its start."""
    if isinstance(subject, Launch):
        t_ms = None if t is None else t * 1000
        return Place(launch=subject.label, t_ms=t_ms), _log_lines(subject, t_ms)
    if isinstance(subject, Recording):
        return None, ()
    exchange = subject.exchange if isinstance(subject, Stream) else subject
    if isinstance(at, Event):
        place = Place(exchange.id, at.index, at.byte, at.at * 1000)
    elif at is not None:
        time = exchange.time_of_byte(at) if t is None else t
        place = Place(exchange.id, None, at, None if time is None else time * 1000)
    else:
        place = Place(exchange.id, None, None, None if t is None else t * 1000)
    if isinstance(subject, Stream):
        return place, _event_lines(subject, at)
    return place, ()


def _event_lines(stream: Stream, at: Event | int | None) -> tuple[str, ...]:
    if not stream.events:
        return ()
    if isinstance(at, Event):
        centre = at.index
    elif at is not None:
        centre = max((event.index for event in stream.events if event.byte <= at), default=0)
    else:
        centre = len(stream.events) - 1

    def mark(event: Event) -> str:
        return "> " if event.index == centre and at is not None else "  "

    low, high = max(0, centre - CONTEXT_LINES), centre + CONTEXT_LINES + 1
    return tuple(
        f"{mark(event)}{event.index:>4}  +{event.at:.3f} s  {event.text[:240]}" for event in stream.events[low:high]
    )


def _log_lines(launch: Launch, t_ms: float | None) -> tuple[str, ...]:
    near = [line for line in launch.lines if t_ms is not None and abs(line.at * 1000 - t_ms) < 500]
    lines = launch.lines[-5:] if t_ms is None else near[:9]
    return tuple(f"  {line.stream}  +{line.at:.3f} s  {line.text[:240]}" for line in lines)


def ok(subject: Subject, message: str = "", *, clause: str = "", events: int | None = None) -> Finding:
    """The clause was kept here: one piece of evidence."""
    exchanges, seen = _evidence(subject)
    return Finding(clause, Status.PASS, "ok", message, exchanges=exchanges, events=seen if events is None else events)


def fail(
    subject: Subject,
    key: str,
    message: str,
    *,
    expected: str = "",
    actual: str | None = None,
    at: Event | int | None = None,
    t: float | None = None,
    clause: str = "",
    caused_by: str | None = None,
    status: Status = Status.FAIL,
) -> Finding:
    """The clause was broken here; the verdict makes WARN of it for a SHOULD.

    Without `actual` an exchange is described by its status and body, a launch by how it went.
    """
    exchanges, seen = _evidence(subject)
    if actual is None:
        actual = _as_seen(subject)
    place, lines = _place(subject, at, t)
    return Finding(
        clause,
        status,
        key,
        message,
        expected,
        actual,
        place,
        lines,
        exchanges=exchanges,
        events=seen,
        caused_by=caused_by,
    )


def _as_seen(subject: Subject) -> str:
    if isinstance(subject, Exchange):
        return describe(subject)
    return how_it_went(subject) if isinstance(subject, Launch) else ""


def require(kept: object, subject: Subject, key: str, message: str, *, seen: str = "", **more: Any) -> Finding:
    """`ok` with the words of `seen` where the demand was kept, else `fail` with all the rest."""
    return ok(subject, seen, clause=more.get("clause", "")) if kept else fail(subject, key, message, **more)


def first_broken(
    subject: Subject, *demands: tuple[object, str, str, str] | tuple[object, str, str, str, str], **more: Any
) -> Finding:
    """`fail` for the first demand that was not kept, else `ok`.

    Each demand is (kept, key, message, expected), or with the actual value as a fifth.
    """
    for kept, key, message, expected, *actual in demands:
        if not kept:
            return fail(subject, key, message, expected=expected, actual=actual[0] if actual else None, **more)
    return ok(subject, **more)


def warn(subject: Subject, key: str, message: str, **more: Any) -> Finding:
    """Tolerated, but a reader should know."""
    return fail(subject, key, message, status=Status.WARN, **more)


def unsure(subject: Subject, key: str, message: str, **more: Any) -> Finding:
    """INCONCLUSIVE: there was an observation, and it decides nothing."""
    return fail(subject, key, message, status=Status.INCONCLUSIVE, **more)


def note(
    subject: Subject, key: str, message: str, *, reading: tuple[str, str] | None = None, clause: str = ""
) -> Finding:
    """INFO: something observed, such as which reading of a disputed point the target follows."""
    exchanges, seen = _evidence(subject)
    return Finding(clause, Status.INFO, key, message, exchanges=exchanges, events=seen, reading=reading)


def not_applicable(subject: Subject, message: str, *, clause: str = "") -> Finding:
    """NA: the clause binds only those who do what this target does not do."""
    exchanges, seen = _evidence(subject)
    return Finding(clause, Status.NA, "not-applicable", message, exchanges=exchanges, events=seen)


# ---- running them -------------------------------------------------------------------------------------------------


def evaluate(recording: Recording) -> list[Finding]:
    """Every finding about a recording: its clauses' judges (if the check was completed) and all invariants.

    Pure: the same recording gives the same findings. `ok` findings of one clause are merged into one. A clause the
    check names and no judge or invariant spoke about gets NOT_TESTED; a judge that raises gets ERROR, which is the
    suite's fault and never the target's.
    """
    sha = recording.sha
    findings: list[Finding] = []
    named = frozenset(recording.clauses)
    with parsed_once(recording):
        if recording.outcome == "completed":
            for entry in JUDGES:
                if named.intersection(entry.clauses):
                    findings += _run(entry, [(recording,)])
            findings = [finding for finding in findings if finding.clause in named]
        for entry in INVARIANTS:
            findings += _run(entry, _subjects(entry.scope, recording))
    spoken = {finding.clause for finding in findings if finding.status is not Status.INFO}
    findings += [_silence(clause, recording) for clause in recording.clauses if clause not in spoken]
    return [finding.named(check=recording.check, recording=sha) for finding in _merge(findings)]


def _subjects(scope: Scope, recording: Recording) -> list[tuple[object, ...]]:
    if scope == "stream":
        return [(stream,) for stream in streams(recording)]
    if scope == "exchange":
        return [(exchange, recording) for exchange in recording.exchanges]
    if scope == "launch":
        return [(launch, recording) for launch in recording.launches]
    return [(recording,)]


def _run(entry: Judge, calls: Iterable[tuple[object, ...]]) -> Iterator[Finding]:
    for arguments in calls:
        try:
            for finding in entry.function(*arguments):
                clause = finding.clause or entry.clauses[0]
                if clause not in entry.clauses:
                    raise ValueError(f"it speaks about {clause}, which it did not register for")  # noqa: TRY301 - caught below
                yield finding.named(clause=clause, judge=entry.name)
        except Exception as error:  # noqa: BLE001 - whatever a judge raises is a fault of the suite
            yield Finding(
                entry.clauses[0],
                Status.ERROR,
                "judge-crashed",
                f"judge {entry.name} raised {type(error).__name__}: {error}",
                judge=entry.name,
            )


SILENT = "nothing-observed"
"""Key of the finding about a clause that a completed check names and no judge spoke about."""
_SILENT = {
    "not-exercised": (Status.NOT_TESTED, "not-exercised"),
    "out-of-reach": (Status.NOT_TESTED, "out-of-reach"),
    "blocked": (Status.BLOCKED, "blocked"),
    "harness-error": (Status.ERROR, "harness-error"),
}


def _silence(clause: str, recording: Recording) -> Finding:
    status, key = _SILENT.get(recording.outcome, (Status.NOT_TESTED, SILENT))
    return Finding(clause, status, key, recording.note or seen_instead(recording))


def _merge(findings: list[Finding]) -> list[Finding]:
    """One finding for all `ok` of a clause; everything else stays as it is."""
    kept: list[Finding] = []
    passes: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.status is Status.PASS:
            passes[finding.clause].append(finding)
        else:
            kept.append(finding)
    for clause, group in passes.items():
        exchanges = tuple(dict.fromkeys(name for finding in group for name in finding.exchanges))
        events = sum(finding.events for finding in group)
        kept.append(group[0].named(clause=clause, exchanges=exchanges, events=events))
    return kept
