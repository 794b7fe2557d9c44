"""How far two arrays are apart. The first argument is always the reference; everything is accumulated in float64."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.floating]
    Doubles = npt.NDArray[np.float64]


_BLOCK: Final = 1 << 20
"""Values that are taken to float64 at a time."""


@dataclass(frozen=True, slots=True)
class RowSums:
    """What all measures are made of, by row, (n,): squared differences, squares of both sides, their products."""

    wrong: Doubles
    size: Doubles
    other: Doubles
    common: Doubles
    largest: Doubles
    """Largest absolute difference of the row."""

    @classmethod
    def joined(cls, parts: Sequence[RowSums]) -> RowSums:
        """The rows of several one after the other."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def nmse(self) -> float:
        """NMSE over all rows; infinity when the candidate is not finite or the reference is all zero and it is not."""
        with np.errstate(over="ignore"):
            wrong, size = float(self.wrong.sum()), float(self.size.sum())
        if wrong == 0:
            return 0.0
        return wrong / size if size > 0 and np.isfinite(wrong) else float("inf")

    def by_row(self) -> Doubles:
        """NMSE of each row; not finite in a candidate is infinity."""
        out = np.divide(self.wrong, self.size, out=np.where(self.wrong == 0, 0.0, np.inf), where=self.size > 0)
        return np.where(np.isfinite(out), out, np.inf)

    def max_abs(self) -> float:
        """Largest absolute difference."""
        worst = float(self.largest.max(initial=0.0))
        return worst if np.isfinite(worst) else float("inf")

    def cosine(self) -> float:
        """Cosine of the angle between all values of both sides; 0 where one is zero or not finite."""
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            value = float(self.common.sum() / np.sqrt(self.size.sum() * self.other.sum()))
        return value if np.isfinite(value) else 0.0


def row_sums(reference: Array, candidate: Array) -> RowSums:
    """The sums of each row, (n, features) twice -> (n,), with float64 copies of a few rows at a time."""
    height = max(1, _BLOCK // max(1, reference.shape[1]))
    parts = []
    for at in range(0, len(reference), height):
        a, b = reference[at : at + height].astype(np.float64), candidate[at : at + height].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            difference = a - b
            largest = np.abs(difference).max(axis=1, initial=0.0)
            sums = [np.einsum("ij,ij->i", x, y) for x, y in ((difference, difference), (a, a), (b, b), (a, b))]
        parts.append(RowSums(sums[0], sums[1], sums[2], sums[3], largest))
    none = np.zeros(0)
    return RowSums.joined(parts) if parts else RowSums(none, none, none, none, none)


def row_nmse(reference: Array, candidate: Array) -> Doubles:
    """NMSE of each row, sum((a-b)²) / sum(a²): (n, features) twice -> (n,). Not finite in a candidate is infinity."""
    return row_sums(reference, candidate).by_row()


def nmse(reference: Array, candidate: Array) -> float:
    """NMSE over all elements; infinity when the candidate is not finite or the reference is all zero and it is not."""
    return row_sums(np.atleast_2d(reference), np.atleast_2d(candidate)).nmse()


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


_ROWS: Final = 16
"""Rows of logits that are compared at a time: float64 copies of a large vocabulary take room."""


def logit_gap(reference: Array, candidate: Array) -> LogitGap:
    """Compare logits (n, vocabulary) row by row."""
    pieces = [
        _gap(reference[at : at + _ROWS].astype(np.float64), candidate[at : at + _ROWS].astype(np.float64))
        for at in range(0, len(reference), _ROWS)
    ]
    return joined(pieces)


def joined(gaps: Sequence[LogitGap]) -> LogitGap:
    """The rows of several gaps one after the other."""
    return LogitGap(**{f.name: np.concatenate([getattr(gap, f.name) for gap in gaps]) for f in fields(LogitGap)})


def _gap(a: Doubles, b: Doubles) -> LogitGap:
    p, q = log_softmax(a), log_softmax(b)
    order, theirs = _best(a), _best(b)
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


def _best(logits: Doubles, count: int = 5) -> npt.NDArray[np.int64]:
    """The ids of the ``count`` largest by row, largest first, of equal ones the lower id first: (n, count)."""
    count = min(count, logits.shape[1])
    found = np.empty((len(logits), count), np.int64)
    for row, values in enumerate(logits):
        least = np.partition(values, -count)[-count]
        near = np.flatnonzero(values >= least)
        found[row] = near[np.argsort(-values[near], kind="stable")[:count]]
    return found
