"""A layer replayed: the worker gets the reference's input of one layer, and computes on by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from m0_parity.compare import CellSums
from m0_parity.layerwise.lockstep import Lockstep
from m0_parity.recording import Recording, Request, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from m0_worker.adapters import ModelAdapter
    from m0_worker.devices.interface import Device

    from m0_parity.capture import Work
    from m0_parity.compare import Cell
    from m0_parity.names import Place

    Floats = npt.NDArray[np.float32]


@dataclass(slots=True)
class Replay:
    """How to repeat passes up to a layer.

    Attributes:
        layers: of the model.
        inputs: by request, what the reference gave the layer that is being looked at.
    """

    adapter: ModelAdapter
    device: Device
    work: Sequence[Work]
    layers: int
    inputs: dict[str, Floats] = field(default_factory=dict)

    def nmse(self, first: Cell, reference: Recording) -> float:
        """NMSE at the place of ``first``; ``reference`` holds that layer's recording, or the head's."""
        layer, name = first.place
        if name in {"embd", "inpL"}:
            return first.nmse  # nothing comes before
        at = self.layers if layer < 0 else layer
        if at:
            source: Place = (at - 1, "l_out")
            given = Recording({}, {item.id: self._input(item, source) for item in self.work})
        else:
            places = next(iter(reference)).rows
            source, given = (-1, "inpL" if (-1, "inpL") in places else "embd"), reference
        sums = CellSums()
        with Lockstep(self.adapter, self.device, self.work, only=frozenset({source})) as steps:
            shown = Recording({})
            for i in range(min(at + 1, self.layers)):
                shown = steps.layer(i, given if i == max(0, at - 1) else None)
            for ours, start in steps.head() if layer < 0 else ((request, 0) for request in shown):
                if ours.id == first.request:
                    for place, part, theirs in pairs(reference.requests[ours.id], ours, start):
                        if place == first.place:
                            sums.add(theirs.positions, theirs.values, part.values)
        return sums.cell(first.request, first.place).nmse

    def _input(self, item: Work, source: Place) -> Request:
        values = self.inputs[item.id]
        rows = Rows(np.arange(len(values)), values, values.shape[1])
        return Request(item.id, item.tokens, len(item.prompt), {source: rows})


def pairs(reference: Request, ours: Request, at: int) -> list[tuple[Place, Rows, Rows]]:
    """The places of a pass that starts at position ``at``: the worker's rows and the reference's of the same tokens."""
    found = []
    for place, rows in ours.rows.items():
        if place in reference.rows:
            theirs = reference.rows[place]
            span = slice(at, at + len(rows.values))
            found.append((place, rows, Rows(theirs.positions[span], theirs.values[span], theirs.features)))
    return found
