"""Judges of POST /execute's parameters: each limit from both sides, defaults, and the same job in other words."""

from __future__ import annotations

from m0_conformance.conditions.rounds import WRITTEN
from m0_conformance.judging import Findings, Recording, describe, fail, judge, note, ok, require, streams, unsure
from m0_conformance.judging.answers import BUSY, Case, cases, finished, is_refused, steady, taken

_LIMITS = tuple(
    f"M0-W-1300/{name}"
    for name in (
        "minimal-body", "job-id", "prompt", "prompt-max", "body-size", "max-tokens-range", "temperature-range",
        "top-p-range", "top-k-range", "top-k-vocabulary", "repetition-penalty-range", "stop-count", "stop-length",
        "stop-empty-item", "seed-range",
    )
)  # fmt: skip

LONGEST = 32768
NO_ROOM = "the model's context may be too small for the longest prompt"
ROOM = 12_000
"""Context a 32,768-character English prompt surely fits into."""


@judge(*_LIMITS)
def limits(recording: Recording) -> Findings:
    """Accepted where it must be, refused where it must be; with which status is M0-W-1302's."""
    for case in cases(recording):
        if case.clause in _LIMITS:
            yield from _side(recording, case)


def _side(recording: Recording, case: Case) -> Findings:
    what, name = case.exchange.label, case.field or "request"
    if case.want == "edge":
        yield from _edge(case)
    elif case.want == "accept" and case.taken == "accepted":
        yield ok(case.exchange, clause=case.clause)
    elif case.want == "accept" and case.taken == "refused":
        if any(taken(other) == "accepted" for other in recording.labelled(what)):
            return  # another text of that length was served: this one had too many tokens
        if case.field == "prompt" and _no_room(recording, case):
            yield unsure(case.exchange, "context-too-small", NO_ROOM, clause=case.clause)
            return
        yield fail(
            case.exchange,
            f"legal-{name}-refused",
            f"a legal request is refused: {what}",
            expected="HTTP 200 and a stream",
            clause=case.clause,
        )
    elif case.want == "refuse" and case.taken in {"refused", "server-error"}:
        yield ok(case.exchange, clause=case.clause)
    elif case.want == "refuse" and case.taken == "accepted":
        yield fail(
            case.exchange,
            f"illegal-{name}-accepted",
            f"an illegal request is served: {what}",
            expected="HTTP 400",
            clause=case.clause,
        )
        if case.clause == "M0-W-1300/top-k-vocabulary":
            yield note(
                case.exchange,
                "top-k",
                "top_k above the vocabulary is served",
                reading=("E-TOPKMAX", "off"),
                clause=case.clause,
            )


def _edge(case: Case) -> Findings:
    """Which precision the worker compares numbers in."""
    if case.taken in {"accepted", "refused"}:
        precision = "single" if case.taken == "accepted" else "double"
        yield note(
            case.exchange,
            "precision",
            f"numbers are compared with their limits in {precision} precision",
            reading=("E-SINGLE", precision),
            clause=case.clause,
        )


def _no_room(recording: Recording, case: Case) -> bool:
    """A model that is not ours may lack the context, and may say so with 400 (M0-W-1825)."""
    if recording.facts.get("fits"):
        return False
    context = recording.facts.get("context_length")
    words = case.exchange.body.decode("utf-8", "replace").lower()
    return not isinstance(context, int) or context < ROOM or "token" in words or "context" in words


@judge("M0-W-1300/prompt-unit")
def prompt_unit(recording: Recording) -> Findings:
    """E-CHARS: astral characters have two UTF-16 units and four bytes: where refusals begin tells the unit."""
    counts: dict[int, Case] = {}
    for case in cases(recording):
        number, _, rest = case.exchange.label.partition(" ")
        if rest == "astral characters" and case.taken in {"accepted", "refused"}:
            counts[int(number)] = case
    if not counts:
        return
    largest = counts[max(counts)]
    served = max((count for count, case in counts.items() if case.taken == "accepted"), default=0)
    if served > LONGEST // 2:
        yield ok(counts[served].exchange)
        yield note(counts[served].exchange, "unit", "the limit counts code points", reading=("E-CHARS", "code-points"))
        return
    unit = {LONGEST // 2: "utf16-units", LONGEST // 4: "bytes"}.get(served)
    if unit is None and _no_room(recording, largest):
        yield unsure(largest.exchange, "context-too-small", NO_ROOM)
        return
    yield fail(
        largest.exchange,
        f"counts-{unit or 'otherwise'}",
        "32768 characters outside the basic plane are refused for their length",
        expected="a limit in code points",
        actual=f"{served} are served, {min(n for n in counts if n > served)} are not: {describe(largest.exchange)}",
    )
    if unit is not None:
        yield note(largest.exchange, "unit", f"the limit counts {unit}", reading=("E-CHARS", unit))


@judge("M0-W-1300/optional-defaults", "M0-W-1300/deadline-header")
def no_difference(recording: Recording) -> Findings:
    """Jobs that must say what the plain job says."""
    words = {
        "spelled out": ("M0-W-1300/optional-defaults", "defaults-differ", "spelling out the defaults changes it"),
        "with a deadline": ("M0-W-1300/deadline-header", "deadline-matters", "an X-Deadline header changes it"),
    }
    plain = steady(recording, "plain")
    if plain is None:
        return
    for label, (clause, key, message) in words.items():
        for stream in streams(recording, label):
            if stream.terminal is None:
                continue
            yield require(
                finished(stream) and stream.pieces == plain,
                stream,
                key,
                message,
                expected=repr(plain)[:160],
                actual=repr(stream.pieces)[:160],
                clause=clause,
            )
        for exchange in recording.labelled(label):
            if is_refused(exchange):
                yield fail(exchange, key, message, expected="HTTP 200", clause=clause)


@judge("M0-W-1300/job-id-reuse")
def job_id_reuse(recording: Recording) -> Findings:
    """The second job of the same job_id, after the first has ended."""
    first = next(iter(streams(recording, "first use")), None)
    if first is None or not finished(first):
        return
    for exchange in recording.labelled("second use"):
        served = [stream for stream in streams(recording, "second use") if stream.exchange is exchange]
        if served and finished(served[0]) and bool(served[0].tokens) == bool(first.tokens):
            yield ok(served[0])
        elif is_refused(exchange) or (served and served[0].terminal is not None):
            yield fail(
                exchange,
                "job-id-not-reusable",
                "a job_id whose job has ended is not served again",
                expected="a job like the first",
            )


@judge("M0-W-1300/correlation-header")
def correlation_header(recording: Recording) -> Findings:
    """Deferred: reported only."""
    for exchange in recording.labelled("with a correlation id"):
        sent = next(value for name, value in exchange.request_headers if name.lower() == "x-correlation-id")
        if exchange.header("x-correlation-id") == sent:
            yield ok(exchange)
        elif exchange.status == 200:
            yield fail(
                exchange,
                "correlation-id-lost",
                "the correlation id does not come back",
                expected=f"x-correlation-id: {sent}",
                actual=exchange.header("x-correlation-id") or "no such header",
            )


@judge("M0-W-1300/number-spellings")
def number_spellings(recording: Recording) -> Findings:
    """Each spelling's job says what its twin in the usual spelling said, both times."""
    for exchange in recording.exchanges:
        what, _, spelled = exchange.label.removeprefix("spelled ").rpartition(" as ")
        usual = steady(recording, f"usual {what}") if exchange.label.startswith("spelled ") else None
        if usual is None:
            continue
        found = [stream for stream in streams(recording, exchange.label) if stream.terminal is not None]
        if found:
            yield require(
                finished(found[0]) and found[0].pieces == usual,
                found[0],
                "spelling-matters",
                f"{what}, spelled {spelled}, is another number",
                expected=repr("".join(usual))[:160],
                actual=repr(found[0].text)[:160],
            )
        elif is_refused(exchange):
            yield fail(
                exchange, "spelling-refused", f"{what}, spelled {spelled}, is refused", expected="HTTP 200",
                actual=describe(exchange),
            )  # fmt: skip


@judge("M0-W-1300/streams")
def forms_of_requests(recording: Recording) -> Findings:
    """A legal job is served however its JSON, its headers and its body are written, if it is served at all."""
    forms = [exchange for exchange in recording.exchanges if exchange.label.startswith("form: ")]
    usual = [exchange for exchange in forms if exchange.label.endswith("=as-is")]
    if not usual or any(exchange.status != 200 for exchange in usual):
        return
    for exchange in forms:
        dimension, _, form = exchange.label.removeprefix("form: ").partition("=")
        if dimension in WRITTEN and exchange.status is not None and exchange.status not in BUSY:
            yield require(
                exchange.status == 200,
                exchange,
                f"form-not-taken-{dimension}",
                f"a legal job is not taken in the form {dimension} {form}",
                expected="HTTP 200",
            )
