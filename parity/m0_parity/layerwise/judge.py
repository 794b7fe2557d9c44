"""What the views of a sweep show: cells of the free one, and of the forced one the first operation that is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from m0_parity.compare import Cell, CellSums, Comparison, IncomparableError, cell
from m0_parity.diagnose import diagnose
from m0_parity.divergence import Divergence
from m0_parity.layerwise.replay import pairs
from m0_parity.metrics import joined, logit_gap
from m0_parity.names import LOGITS, Place, rank
from m0_parity.recording import Recording, Request, Rows

if TYPE_CHECKING:
    from m0_parity.layerwise.bounds import Bounds
    from m0_parity.layerwise.lockstep import Lockstep
    from m0_parity.layerwise.replay import Replay
    from m0_parity.metrics import LogitGap


@dataclass(slots=True)
class Wrong:
    """The first operation that is off on its own, what it looks like, and the others."""

    cell: Cell
    diagnosis: str
    replayed: float
    also: set[Place] = field(default_factory=set)


class Judge:
    """Measures layer after layer and keeps nothing of a layer but its figures.

    Attributes:
        wrong: the first operation that is off on its own, or None.
    """

    def __init__(self, comparison: Comparison, bounds: Bounds, replay: Replay) -> None:
        self.wrong: Wrong | None = None
        self._comparison = comparison
        self._bounds = bounds
        self._replay = replay

    def layer(self, reference: Recording, free: Recording, forced: Recording) -> None:
        """The places of one layer."""
        for theirs in reference:
            ours = free.requests[theirs.id]
            self._note_missing(theirs, {place: len(rows.values) for place, rows in ours.rows.items()})
            for place in sorted(theirs.rows.keys() & ours.rows.keys(), key=rank):
                self._comparison.cells.append(cell(theirs.id, place, theirs.rows[place], ours.rows[place]))
        wrong = self._off(
            [
                cell(theirs.id, place, theirs.rows[place], forced.requests[theirs.id].rows[place])
                for theirs in reference
                for place in theirs.rows.keys() & forced.requests[theirs.id].rows.keys()
            ]
        )
        if wrong and self.wrong is None:
            first = min(wrong, key=lambda c: rank(c.place))
            self.wrong = Wrong(first, diagnose(first.place, reference, forced), self._replay.nmse(first, reference))
        self._note_others(wrong)

    def head(self, reference: Recording, free: Lockstep, forced: Lockstep) -> None:
        """The last norm and the logits, a pass at a time: logits of all positions take room."""
        gaps: dict[str, list[LogitGap]] = {}
        sums: dict[tuple[str, Place], CellSums] = {}
        seen: dict[str, dict[Place, int]] = {theirs.id: {} for theirs in reference}
        for ours, at in free.head():
            for place, part, theirs in pairs(reference.requests[ours.id], ours, at):
                sums.setdefault((ours.id, place), CellSums()).add(theirs.positions, theirs.values, part.values)
                seen[ours.id][place] = seen[ours.id].get(place, 0) + len(part.values)
                if place[1] == LOGITS and theirs.values.shape == part.values.shape:
                    gaps.setdefault(ours.id, []).append(logit_gap(theirs.values, part.values))
        self._comparison.cells += [one.cell(*key) for key, one in sums.items()]
        self._comparison.logits = {request: joined(parts) for request, parts in gaps.items()}
        for request in reference:
            self._note_missing(request, seen[request.id])
        self._head_forced(reference, forced)

    def _head_forced(self, reference: Recording, forced: Lockstep) -> None:
        """Of each place the longest pass that is off is kept to say what it looks like."""
        sums: dict[tuple[str, Place], CellSums] = {}
        kept: dict[tuple[str, Place], tuple[int, Recording, Recording]] = {}
        for ours, at in forced.head(reference):
            theirs = reference.requests[ours.id]
            for place, part, due in pairs(theirs, ours, at):
                key = ours.id, place
                sums.setdefault(key, CellSums()).add(due.positions, due.values, part.values)
                if self._off([cell(*key, due, part)]) and len(part.values) > kept.get(key, (0,))[0]:
                    kept[key] = len(part.values), _alone(theirs, place, due), _alone(ours, place, part)
        wrong = self._off([one.cell(*key) for key, one in sums.items()])
        if wrong and self.wrong is None:
            first = min(wrong, key=lambda c: rank(c.place))
            _, expected, seen = kept[first.request, first.place]
            self.wrong = Wrong(first, diagnose(first.place, expected, seen), self._replay.nmse(first, reference))
        self._note_others(wrong)

    def _off(self, cells: list[Cell]) -> list[Cell]:
        return [c for c in cells if c.excess(self._bounds.local(c.request, c.place)) > 1]

    def _note_others(self, wrong: list[Cell]) -> None:
        if self.wrong is not None:
            self.wrong.also |= {c.place for c in wrong} - {self.wrong.cell.place}

    def _note_missing(self, theirs: Request, seen: dict[Place, int]) -> None:
        """What only one side has is no part of the comparison, and must be said; ``seen`` counts the worker's rows."""
        both = self._comparison
        both.only_reference = sorted({*both.only_reference, *(theirs.rows.keys() - seen.keys())}, key=rank)
        both.only_candidate = sorted({*both.only_candidate, *(seen.keys() - theirs.rows.keys())}, key=rank)
        for place, count in seen.items():
            if place in theirs.rows and (alone := abs(len(theirs.rows[place].values) - count)):
                both.lacks(f"positions of one side only, {alone} of a checkpoint")

    # The end ---------------------------------------------------------------------------------------------------------

    def worst(self) -> Cell:
        """The free cell that uses most of its bound.

        Raises:
            IncomparableError: the worker showed no checkpoint that llama.cpp has.
        """
        if not self._comparison.cells:
            raise IncomparableError("the worker shows no checkpoint that llama.cpp has: there is nothing to compare")
        return max(self._comparison.cells, key=self._excess)

    def divergence(self) -> Divergence | None:
        """The first place where the worker goes wrong, or where small differences have grown too large."""
        cells = self._comparison.cells
        if self.wrong is not None:
            first = self.wrong.cell
            return Divergence(
                place=first.place,
                request=first.request,
                position=first.first_position(self._bounds.local(first.request, first.place)),
                nmse=next(c.nmse for c in cells if c.place == first.place and c.request == first.request),
                local=first.nmse,
                layer_replayed=self.wrong.replayed,
                confirmed=True,
                diagnosis=self.wrong.diagnosis,
                also=tuple(sorted(self.wrong.also, key=rank)),
            )
        over = [c for c in cells if self._excess(c) > 1]
        if not over:
            return None
        first = min(over, key=lambda c: rank(c.place))
        return Divergence(
            place=first.place,
            request=first.request,
            position=first.first_position(self._bounds.free(first.request, first.place)),
            nmse=first.nmse,
            local=0.0,
            layer_replayed=float("nan"),
            confirmed=False,
            diagnosis="no single operation is off: small differences add up",
        )

    def _excess(self, one: Cell) -> float:
        return one.excess(self._bounds.free(one.request, one.place))


def _alone(request: Request, place: Place, rows: Rows) -> Recording:
    """A recording of nothing but one place of one request."""
    return Recording({}, {request.id: Request(request.id, request.tokens, request.prompt, {place: rows})})
