"""Odds of the dice probe by M0-W-1421's order, and how well counts agree with odds."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

from m0_conformance.judging.rendering import rendering_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from m0_conformance.judging.streams import Stream
    from m0_conformance.recording.transcript import Recording

SIGMA = 6.0
"""A right sampler is beyond this once in a thousand million streams."""
LEAST_EXPECTED = 5.0
"""Faces expected less often are counted together, the usual condition of the chi-square test."""


def faces_of(recording: Recording) -> dict[str, float]:
    """Logit by face, each as the worker's text renders it; empty where the check noted none."""
    worn = rendering_of(recording).worn
    return {worn(face): logit for face, logit in (recording.facts.get("faces") or {}).items()}


def thrown(stream: Stream) -> list[str]:
    """The faces in their order, read from the joined text: a worker may hold text back and send two faces as one t.

    What is no face comes last, as one.
    """
    faces = faces_of(stream.recording) if stream.recording is not None else {}
    if not faces:
        return [piece for piece in stream.pieces if piece]
    pattern = "|".join(map(re.escape, sorted(faces, key=len, reverse=True)))
    found = re.findall(pattern, stream.text)
    rest = re.sub(pattern, "", stream.text)
    return [*found, rest[:40]] if rest else found


def counts_of(stream: Stream) -> Counter[str]:
    """How often each face fell."""
    return Counter(thrown(stream))


def shares_of(counts: Counter[str]) -> str:
    """The commonest faces and their shares, for a report."""
    n = sum(counts.values()) or 1
    return ", ".join(f"{face!r} {count / n:.3f}" for face, count in counts.most_common(8)) or "nothing"


def odds(
    logits: Mapping[str, float], *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> dict[str, float]:
    """Probability by face: temperature, then top-k, then the smallest set that reaches top-p."""
    scaled = {face: logit / temperature for face, logit in logits.items()}
    order = sorted(scaled, key=lambda face: -scaled[face])[: top_k or None]
    peak = scaled[order[0]]
    weights = {face: math.exp(scaled[face] - peak) for face in order}
    total = sum(weights.values())
    kept: dict[str, float] = {}
    reached = 0.0
    for face in order:
        kept[face] = weights[face] / total
        reached += kept[face]
        if reached >= top_p:
            break
    share = sum(kept.values())
    return {face: value / share for face, value in kept.items()}


def deviation(counts: Counter[str], expected: Mapping[str, float]) -> float:
    """Standard deviations by which the chi-square statistic of ``counts`` lies above what ``expected`` predicts.

    The normal approximation of the cube root (Wilson and Hilferty 1931). Infinite when something fell that cannot.
    """
    n = sum(counts.values())
    if any(face not in expected for face in counts):
        return math.inf
    common = {face: share for face, share in expected.items() if share * n >= LEAST_EXPECTED}
    cells = [(counts[face], share * n) for face, share in common.items()]
    rest = 1.0 - sum(common.values())
    if rest * n >= LEAST_EXPECTED:
        cells.append((n - sum(counts[face] for face in common), rest * n))
    freedom = len(cells) - 1
    if freedom < 1:
        return 0.0
    statistic = sum((seen - wanted) ** 2 / wanted for seen, wanted in cells)
    spread = 2.0 / (9.0 * freedom)
    return (math.cbrt(statistic / freedom) - (1.0 - spread)) / math.sqrt(spread)
