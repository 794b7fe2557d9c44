"""Why a check that ran decided nothing: what there was to see instead of what a clause takes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from m0_conformance.judging.launches import how_it_went
from m0_conformance.judging.streams import is_execute, stream_of

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Recording

SHOWN = 3


def seen_instead(recording: Recording) -> str:
    """What came of the jobs, other requests and launches of a recording, in a few words."""
    jobs: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for exchange in recording.exchanges:
        if not is_execute(exchange):
            others[f"{exchange.method} {exchange.path}: {_status(exchange.status, exchange.end)}"] += 1
            continue
        if exchange.status != 200:
            jobs[_status(exchange.status, exchange.end)] += 1
            continue
        terminal = stream_of(exchange, recording).terminal
        code = "" if terminal is None else str(terminal.data.get("code") or "")
        kind = f"without a terminal event ({exchange.end})" if terminal is None else f"{terminal.kind} {code}".strip()
        jobs[kind] += 1
    unready = [
        f"{launch.label}: {how_it_went(launch)}"
        for launch in recording.launches
        if launch.ready_at is None or launch.exit_code is not None
    ]
    parts = [_counted("jobs ended", jobs), _counted("others", others) if not jobs else "", "; ".join(unready[:SHOWN])]
    return "; ".join(part for part in parts if part) or "no request was sent"


def _status(status: int | None, end: str) -> str:
    return f"HTTP {status}" if status is not None else f"no answer ({end})"


def _counted(words: str, found: Counter[str]) -> str:
    if not found:
        return ""
    more = f" and {len(found) - SHOWN} other ways" if len(found) > SHOWN else ""
    return (
        f"{words} with " * (words == "jobs ended")
        + ", ".join(f"{kind} ({count})" for kind, count in found.most_common(SHOWN))
        + more
    )
