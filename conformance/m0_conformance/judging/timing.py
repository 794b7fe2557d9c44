"""Timing verdicts are statistics: a quantile with its confidence bounds, never one stopwatch reading.

Bounds are distribution-free: of n sorted samples the k-th lies below the q-quantile with binomial probability, so order
statistics bound the quantile with a known confidence (David & Nagaraja, *Order Statistics*, section 7.1). PASS when the
upper bound keeps the limit, FAIL when the lower bound breaks it, INCONCLUSIVE in between or with fewer than 20 samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m0_conformance.judging.judge import Subject, fail, ok, unsure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m0_conformance.judging.finding import Finding
    from m0_conformance.recording.transcript import Recording

MIN_SAMPLES = 20
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Quantile:
    """An estimate and a two-sided confidence interval; `high` is infinite where n is too small to bound it."""

    value: float
    low: float
    high: float
    n: int


def quantile(samples: Sequence[float], q: float, confidence: float = CONFIDENCE) -> Quantile:
    """The q-quantile (0 < q < 1) of the population behind the samples. Raises ValueError without samples."""
    ordered = sorted(samples)
    n = len(ordered)
    if not n or not 0.0 < q < 1.0:
        raise ValueError("a quantile needs samples and 0 < q < 1")
    tail = (1.0 - confidence) / 2.0
    # P(at most k samples lie below the quantile) = sum of binomial(n, q) up to k.
    cumulative, below = 0.0, []
    for k in range(n + 1):
        cumulative += math.comb(n, k) * q**k * (1.0 - q) ** (n - k)
        below.append(cumulative)
    # The r-th smallest (1-based) is at most the quantile unless fewer than r samples lie below it: P = below[r - 1].
    low_rank = max((r for r in range(1, n + 1) if below[r - 1] <= tail), default=0)
    high_rank = min((r for r in range(1, n + 1) if 1.0 - below[r - 1] <= tail), default=0)
    return Quantile(
        value=ordered[min(n - 1, math.ceil(q * n) - 1)],
        low=ordered[low_rank - 1] if low_rank else -math.inf,
        high=ordered[high_rank - 1] if high_rank else math.inf,
        n=n,
    )


def within(
    recording: Recording, name: str, *, q: float, limit: float, subject: Subject | None = None, clause: str = ""
) -> Finding | None:
    """Judge the samples `name` (seconds) of a recording against a limit; None when there are none.

    The limit grows by --timing-scale, and by the harness's own floor, which every sample contains.
    """
    samples = recording.samples.get(name, [])
    if not samples:
        return None
    about = subject or recording
    allowed = limit * float(recording.settings.get("timing_scale") or 1.0)
    allowed += float(recording.settings.get("floor_us") or 0.0) / 1e6
    found = quantile(samples, q)
    bounds = f"{CONFIDENCE:.0%} interval {_ms(found.low)} to {_ms(found.high)}"
    words = f"p{q * 100:g} {found.value * 1000:.2f} ms, {bounds}, n {found.n}"
    expected = f"p{q * 100:g} at most {allowed * 1000:.1f} ms"
    if found.n < MIN_SAMPLES:
        return unsure(
            about,
            "too-few-samples",
            f"{found.n} samples, {MIN_SAMPLES} are needed",
            expected=expected,
            actual=words,
            clause=clause,
        )
    if found.high <= allowed or (math.isinf(found.high) and max(samples) <= allowed):
        return ok(about, words, clause=clause, events=found.n)
    if found.low > allowed:
        return fail(about, f"{name}-too-slow", f"{name}: too slow", expected=expected, actual=words, clause=clause)
    return unsure(
        about, "undecided", f"{name}: the samples do not decide", expected=expected, actual=words, clause=clause
    )


def _ms(value: float) -> str:
    return "unbounded" if math.isinf(value) else f"{value * 1000:.2f} ms"
