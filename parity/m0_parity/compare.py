"""Aligning two recordings by (request, position, layer, name) and measuring every common checkpoint.

What cannot be compared is refused instead of being compared wrongly: other token ids, another model, other shapes,
nothing in common.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_parity.metrics import LogitGap, RowSums, logit_gap, nmse, row_sums
from m0_parity.names import LOGITS, Place, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from m0_parity.recording import Recording, Request, Rows

ROW: Final = 30.0
"""A single position may have this many times the bound of all together. Without it an error would hide behind the size
of another position's values: a trained model's first one outweighs all others a million times."""
STEP: Final = 30.0
"""A divergence is a step: this many times its predecessor (a level alone grows slowly through the layers)."""


_CURE: Final = "record one side again with --like and the other's recording"


class IncomparableError(ValueError):
    """The two recordings do not describe the same computation; the message says which fact differs."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One checkpoint of one request, measured."""

    request: str
    place: Place
    nmse: float
    max_abs: float
    cosine: float
    positions: npt.NDArray[np.int64]
    by_position: npt.NDArray[np.float64]
    """NMSE of each position, (n,)."""

    @property
    def worst_row(self) -> float:
        """The largest NMSE of a position."""
        return float(self.by_position.max(initial=0.0))

    def excess(self, bound: float) -> float:
        """How many times ``bound`` it is: all positions together, or the worst single one against ROW bounds."""
        if self.nmse == 0:
            return 0.0
        if bound == 0 or not np.isfinite(self.nmse):
            return float("inf")
        return max(self.nmse / bound, self.worst_row / (ROW * bound))

    def judged(self, bound: float) -> tuple[float, float]:
        """What was measured and what is allowed: of all positions, or of the worst one where that alone is too far."""
        if self.nmse <= bound and self.excess(bound) > 1:
            return self.worst_row, ROW * bound
        return self.nmse, bound

    def first_position(self, bound: float) -> int:
        """The first position above ten times ``bound``, or the worst one where none is."""
        above = np.flatnonzero(self.by_position > 10 * bound)
        return int(self.positions[above[0] if len(above) else int(np.argmax(self.by_position))])


@dataclass(slots=True)
class Comparison:
    """All cells in the order of computation, requests one after the other."""

    reference: dict[str, Any]
    candidate: dict[str, Any]
    cells: list[Cell]
    logits: dict[str, LogitGap] = field(default_factory=dict)
    shift: int = 0
    """Best alignment of the candidate's positions: 0, or how far it seems to be shifted."""
    only_reference: list[Place] = field(default_factory=list)
    only_candidate: list[Place] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Requests that one side alone recorded."""
    lacking: dict[str, int] = field(default_factory=dict)
    """By what is lacking (positions of a checkpoint, leading values only, input tokens): how many cells it touches."""
    tokens: dict[str, tuple[list[int], int]] = field(default_factory=dict)
    """By request: the input tokens, and how many of them are the prompt."""
    vocabulary: list[str] = field(default_factory=list)
    """The texts of the token ids, where a side knows them."""

    def missing(self) -> list[str]:
        """What was not compared because one side lacks it, in words; empty where both hold the same."""
        found = []
        if self.skipped:
            found.append(f"{_count(len(self.skipped), 'request')} of one side only: {_some(self.skipped)}")
        for side, places in (("reference", self.only_reference), ("candidate", self.only_candidate)):
            if places:
                names = [name if layer < 0 else f"{name}-{layer}" for layer, name in places]
                found.append(f"{_count(len(places), 'checkpoint')} in the {side} only: {_some(names)}")
        return [*found, *(f"{what} ({_count(cells, 'time')})" for what, cells in self.lacking.items())]

    def lacks(self, what: str) -> None:
        """Note that something of a cell was not compared."""
        self.lacking[what] = self.lacking.get(what, 0) + 1

    def worst(self) -> Cell:
        """The cell of largest NMSE."""
        return max(self.cells, key=lambda cell: cell.nmse)

    def judged(self, bound: float) -> tuple[float, float]:
        """What was measured and what is allowed, of the cell that uses most of ``bound``."""
        return max(self.cells, key=lambda cell: cell.excess(bound)).judged(bound)

    def exceeding(self, bound: Callable[[Place], float]) -> list[Cell]:
        """Cells whose NMSE exceeds the bound of their place, in order of computation."""
        return [cell for cell in self.cells if cell.excess(bound(cell.place)) > 1]

    def first_step(self, bound: Callable[[Place], float]) -> Cell | None:
        """The first cell above its bound and STEP times above its predecessor; else the first above its bound."""
        over: Cell | None = None
        before: dict[str, float] = {}
        for cell in self.cells:
            if cell.excess(bound(cell.place)) > 1:
                if not cell.nmse <= STEP * before.get(cell.request, 0.0):
                    return cell
                over = over or cell
            before[cell.request] = cell.nmse
        return over


def compare(reference: Recording, candidate: Recording, *, same_model: bool = True) -> Comparison:
    """Measure every checkpoint that both recordings hold.

    ``same_model=False`` lets the files differ (a perturbed copy, a float32 twin).

    Raises:
        IncomparableError: other token ids, model, architecture or shapes, or nothing in common.
    """
    _check_model(reference.provenance, candidate.provenance, same_model=same_model)
    common = [r for r in reference.requests if r in candidate.requests]
    if not common:
        raise IncomparableError(
            f"no request in common: {sorted(reference.requests)[:4]} against {sorted(candidate.requests)[:4]}"
        )
    result = Comparison(reference.provenance, candidate.provenance, [])
    result.skipped = sorted(reference.requests.keys() ^ candidate.requests.keys())
    for name in common:
        a, b = reference.requests[name], candidate.requests[name]
        _check_tokens(a, b)
        result.tokens[name] = a.tokens, a.prompt
        shared = sorted(a.rows.keys() & b.rows.keys(), key=rank)
        if not shared:
            raise IncomparableError(f"request {name!r}: no checkpoint in common")
        result.only_reference = sorted({*result.only_reference, *(a.rows.keys() - b.rows.keys())}, key=rank)
        result.only_candidate = sorted({*result.only_candidate, *(b.rows.keys() - a.rows.keys())}, key=rank)
        if len(a.tokens) != len(b.tokens):
            longer = "reference" if len(a.tokens) > len(b.tokens) else "candidate"
            result.lacks(f"request {name!r}: {abs(len(a.tokens) - len(b.tokens))} input tokens in the {longer} only")
        for place in shared:
            ours, theirs = a.rows[place], b.rows[place]
            result.cells.append(cell(name, place, ours, theirs))
            if alone := len(np.setxor1d(ours.positions, theirs.positions)):
                result.lacks(f"positions of one side only, {alone} of a checkpoint")
            if ours.values.shape[1] != theirs.values.shape[1] and ours.features == theirs.features:
                result.lacks("whole vectors of one side only, leading values compared")
        if (-1, LOGITS) in shared and not (a.logits().partial or b.logits().partial):
            left, right, _ = aligned(a.logits(), b.logits())
            if np.isfinite(right).all() and right.shape == left.shape:
                result.logits[name] = logit_gap(left, right)
    result.vocabulary = reference.vocabulary or candidate.vocabulary
    result.shift = _shift(reference, candidate, common)
    return result


def aligned(a: Rows, b: Rows, shift: int = 0) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The rows of the positions both have (b's moved by ``shift``), as many columns as both recorded."""
    positions, left, right = np.intersect1d(a.positions, b.positions + shift, return_indices=True)
    width = min(a.values.shape[1], b.values.shape[1])
    return a.values[left, :width], b.values[right, :width], positions


class CellSums:
    """One checkpoint of one request, measured piece by piece."""

    def __init__(self) -> None:
        self._positions: list[npt.NDArray[np.int64]] = []
        self._sums: list[RowSums] = []

    def add(self, positions: npt.NDArray[np.int64], reference: npt.NDArray[Any], candidate: npt.NDArray[Any]) -> None:
        """Rows (n, features) of both sides at ``positions`` (n,)."""
        self._positions.append(positions)
        if reference.shape == candidate.shape:
            self._sums.append(row_sums(reference, candidate))
        else:  # another shape is a finding about the model: everything differs
            one, all_of_it = np.ones(len(positions)), np.full(len(positions), np.inf)
            self._sums.append(RowSums(all_of_it, one, one, 0 * one, all_of_it))

    def cell(self, request: str, place: Place) -> Cell:
        """What was added."""
        sums = RowSums.joined(self._sums)
        return Cell(
            request, place, sums.nmse(), sums.max_abs(), sums.cosine(), np.concatenate(self._positions), sums.by_row()
        )


def cell(request: str, place: Place, a: Rows, b: Rows) -> Cell:
    """Measure one checkpoint where both sides have it.

    Raises:
        IncomparableError: no position in common.
    """
    if a.features != b.features:
        # Another shape is a finding about the model, not an accident of the recording: everything differs.
        return Cell(request, place, float("inf"), float("inf"), 0.0, a.positions, np.full(len(a.positions), np.inf))
    left, right, positions = aligned(a, b)
    if not len(positions):
        raise IncomparableError(f"request {request!r}, {place[1]} of layer {place[0]}: no position in common")
    sums = CellSums()
    sums.add(positions, left, right)
    return sums.cell(request, place)


def _check_model(a: dict[str, Any], b: dict[str, Any], *, same_model: bool) -> None:
    ours, theirs = a.get("architecture"), b.get("architecture")
    if ours and theirs and ours != theirs:
        raise IncomparableError(f"architectures differ: {ours} against {theirs}; record both sides with the same model")
    if not same_model:
        return
    names = [{p.get("model_sha256"), p.get("twin_of")} - {None} for p in (a, b)]
    if all(names) and not names[0] & names[1]:
        raise IncomparableError(
            f"models differ: {a.get('model')} ({str(a.get('model_sha256'))[:12]}) against "
            f"{b.get('model')} ({str(b.get('model_sha256'))[:12]}); record both sides with the same file"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _check_tokens(a: Request, b: Request) -> None:
    """Input tokens must be the same as far as both go on; what comes after the shorter one is not compared."""
    at = next((i for i, (x, y) in enumerate(zip(a.tokens, b.tokens, strict=False)) if x != y), None)
    if at is None and (bool(a.tokens) == bool(b.tokens)):
        return
    if at is None:
        raise IncomparableError(f"request {a.id!r}: {len(a.tokens)} input tokens against {len(b.tokens)}; {_CURE}")
    raise IncomparableError(
        f"request {a.id!r}: other input tokens, first at position {at}: {a.tokens[at]} against {b.tokens[at]}; {_CURE}"
    )


def _shift(reference: Recording, candidate: Recording, requests: list[str]) -> int:
    """How far the candidate's positions seem moved: the shift in -2..2 of least error, if by far the least."""
    score: dict[int, float] = {}
    for shift in (0, -1, 1, -2, 2):
        total = []
        for name in requests:
            a, b = reference.requests[name], candidate.requests[name]
            for place in a.rows.keys() & b.rows.keys():
                if a.rows[place].features != b.rows[place].features:
                    continue
                left, right, positions = aligned(a.rows[place], b.rows[place], shift)
                if len(positions) > 1:
                    total.append(min(nmse(left, right), 4.0))
        if total:
            score[shift] = float(np.median(total))
    best = min(score, key=lambda shift: score[shift], default=0)
    return best if best and score[best] < 0.01 * score.get(0, np.inf) else 0
