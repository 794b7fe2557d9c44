"""How far two arrays are apart. The first argument is always the reference; everything is accumulated in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.floating]
    Doubles = npt.NDArray[np.float64]


def row_nmse(reference: Array, candidate: Array) -> Doubles:
    """NMSE of each row, sum((a-b)²) / sum(a²): (n, features) twice -> (n,). Not finite in a candidate is infinity."""
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        wrong, size = np.square(a - b).sum(axis=1), np.square(a).sum(axis=1)
    out = np.divide(wrong, size, out=np.where(wrong == 0, 0.0, np.inf), where=size > 0)
    return np.where(np.isfinite(out), out, np.inf)


def nmse(reference: Array, candidate: Array) -> float:
    """NMSE over all elements; infinity when the candidate is not finite or the reference is all zero and it is not."""
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        wrong, size = float(np.square(a - b).sum()), float(np.square(a).sum())
    if wrong == 0:
        return 0.0
    return wrong / size if size > 0 and np.isfinite(wrong) else float("inf")


def max_abs(reference: Array, candidate: Array) -> float:
    """Largest absolute difference."""
    with np.errstate(invalid="ignore", over="ignore"):
        worst = float(np.abs(reference.astype(np.float64) - candidate).max(initial=0.0))
    return worst if np.isfinite(worst) else float("inf")


def cosine(reference: Array, candidate: Array) -> float:
    """Cosine of the angle between the flattened arrays; 0 where one of them is zero or not finite."""
    a, b = reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel()
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        value = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    return value if np.isfinite(value) else 0.0


def log_softmax(logits: Array) -> Doubles:
    """Log-probabilities by row, (n, vocabulary)."""
    x = logits.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    shifted: Doubles = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return shifted


@dataclass(frozen=True, slots=True)
class LogitGap:
    """What the difference of two sets of logits means for the text; all by row, (n,)."""

    kl: Doubles
    top1: npt.NDArray[np.bool_]
    """Same first choice."""
    top5: Doubles
    """Share of the reference's five best among the candidate's five best."""
    rank: npt.NDArray[np.int64]
    """Place of the reference's first choice in the candidate's order; 0 is first."""
    margin: Doubles
    """The reference's lead of first over second choice."""
    rms: Doubles
    """Root mean square of the logits' difference, constants removed (a constant changes no probability)."""
    best: npt.NDArray[np.int64]
    """The reference's five best ids, (n, 5)."""
    best_logits: Doubles
    """Their logits in the reference, (n, 5)."""
    candidate_logits: Doubles
    """Their logits in the candidate, (n, 5)."""

    def unexplained(self, k: float = 6.0) -> npt.NDArray[np.int64]:
        """Rows whose first choice flipped although the reference's margin exceeds ``k`` times the difference."""
        flipped: npt.NDArray[np.int64] = np.flatnonzero(~self.top1 & (self.margin > k * self.rms))
        return flipped


def logit_gap(reference: Array, candidate: Array) -> LogitGap:
    """Compare logits (n, vocabulary) row by row."""
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    p, q = log_softmax(a), log_softmax(b)
    order = np.argsort(-a, axis=1, kind="stable")[:, :5]
    theirs = np.argsort(-b, axis=1, kind="stable")[:, :5]
    first = order[:, 0]
    lead = np.take_along_axis(a, order[:, :2], axis=1)
    delta = b - a
    delta = delta - delta.mean(axis=1, keepdims=True)
    return LogitGap(
        kl=(np.exp(p) * (p - q)).sum(axis=1),
        top1=first == theirs[:, 0],
        top5=np.array([len(set(o) & set(t)) / len(o) for o, t in zip(order, theirs, strict=True)]),
        rank=(b > np.take_along_axis(b, first[:, None], axis=1)).sum(axis=1),
        margin=lead[:, 0] - lead[:, 1],
        rms=np.sqrt(np.square(delta).mean(axis=1)),
        best=order,
        best_logits=np.take_along_axis(a, order, axis=1),
        candidate_logits=np.take_along_axis(b, order, axis=1),
    )
