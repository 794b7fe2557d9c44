"""Sending a recording's requests again, in their order and at their times, to any worker, and judging the answers.

A script (`repro/<id>.json`, see `scripts.py`) is repeated step by step instead, so that it waits where it waited.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from m0_conformance.judging.finding import Finding, Status
from m0_conformance.judging.judge import evaluate, load_all
from m0_conformance.judging.streams import describe
from m0_conformance.recording.client import Clock, Live, start
from m0_conformance.recording.request import Request
from m0_conformance.recording.transcript import Recording
from m0_conformance.run import scripts
from m0_conformance.targets import parse_url
from m0_conformance.targets.target import Blocked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from m0_conformance.recording.transcript import Exchange

LIMIT_S = 120.0


def replay(path: Path, url: str | None, command: str | None = None) -> int:
    """`m0-conformance replay`: 0 when the failures of a recording or script are gone, 1 when one is still there.

    Raises ValueError for a file that is neither and for a target that cannot be used.
    """
    load_all()
    data = path.read_bytes()
    script = scripts.read(data)
    if script is not None:
        try:
            new = asyncio.run(scripts.repeat(script, url, command))
        except Blocked as error:
            raise ValueError(str(error)) from error
        known = [(str(clause), str(key)) for clause, key in script.get("seen", [])]
        before: dict[tuple[str, str], Finding | None] = dict.fromkeys(known)
        after = {(finding.clause, finding.key): finding for finding in scripts.failures(new)}
        return _tell(new, before, after)
    if url is None:
        raise ValueError("a recording is sent again to a running worker: give --worker-url")
    try:
        old = Recording.decode(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is neither a recording nor a script: {error}") from error
    new = asyncio.run(repeat(old, parse_url(url)))
    return _tell(new, _failures(old), _failures(new))


def _tell(
    new: Recording, before: Mapping[tuple[str, str], Finding | None], after: Mapping[tuple[str, str], Finding]
) -> int:
    for exchange in new.exchanges:
        sys.stdout.write(
            f"{exchange.id:<4} {exchange.label:<24} {exchange.method} {exchange.path}: {describe(exchange)}\n"
        )
    for key, finding in after.items():
        word = "STILL" if key in before else "NEW"
        sys.stdout.write(
            f"{word} {finding.clause}: {finding.message}; expected {finding.expected}; got {finding.actual}\n"
        )
    for key in before.keys() - after.keys():
        old = before[key]
        sys.stdout.write(f"GONE {key[0]}: {key[1] if old is None else old.message}\n")
    return 1 if after else 0


def _failures(recording: Recording) -> dict[tuple[str, str], Finding]:
    return {(f.clause, f.key): f for f in evaluate(recording) if f.status is Status.FAIL}


async def repeat(old: Recording, address: tuple[str, int]) -> Recording:
    """The same requests, each as long after the first as it was; hung up on where the check hung up."""
    new = Recording(old.check, old.clauses, facts=old.facts, settings=old.settings)
    clock = Clock()
    origin = min((exchange.t0 for exchange in old.exchanges), default=0.0)
    lives: list[tuple[Exchange, Live]] = []
    for exchange in old.exchanges:
        await _until(clock, exchange.t0 - origin, lives, exchange)
        live = start(
            address, _request(exchange), identity=exchange.id, label=exchange.label, clock=clock, timeout=LIMIT_S
        )
        new.exchanges.append(live.exchange)
        lives.append((exchange, live))
    await asyncio.gather(*(_finish(exchange, live) for exchange, live in lives))
    return new


async def _until(clock: Clock, moment: float, lives: list[tuple[Exchange, Live]], nxt: Exchange) -> None:
    """Wait for the moment, and for every exchange that had ended before this one began."""
    for exchange, live in lives:
        if exchange.closed_at is not None and exchange.t0 + exchange.closed_at <= nxt.t0:
            await _finish(exchange, live)
    await asyncio.sleep(max(0.0, moment - clock.now()))


async def _finish(exchange: Exchange, live: Live) -> None:
    if exchange.end == "client-closed":
        seen = len(exchange.chunks)
        await live.wait(lambda: len(live.exchange.chunks) >= seen, LIMIT_S)
        await live.hang_up()
    else:
        await live.done()


def _request(exchange: Exchange) -> Request:
    if exchange.method == "RAW":
        return Request("RAW", exchange.path, raw=exchange.request_body)
    return Request(exchange.method, exchange.path, list(exchange.request_headers), exchange.request_body)
