"""A model proved layer by layer: llama.cpp, the worker running freely, and the worker from llama.cpp's own inputs.

Three views go through the layers together, and each layer is forgotten when it has been measured. *Free* shows what a
user gets: both engines compute on from their own results. *Forced* shows whose fault a difference is: every operation
is repeated from the reference's inputs, so that an error shows where it is made and nowhere else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from m0_models.scan import Scan
from m0_worker.devices import open_device
from m0_worker.devices.cpu.device import CpuDevice
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile

from m0_parity import llamacpp
from m0_parity.capture import sha256
from m0_parity.compare import Cell, CellSums, Comparison, IncomparableError, cell
from m0_parity.diagnose import diagnose
from m0_parity.divergence import Divergence
from m0_parity.layerwise.bounds import Bounds, Heads
from m0_parity.layerwise.lockstep import Lockstep
from m0_parity.layerwise.reference import ReferenceChain
from m0_parity.layerwise.slices import Slices
from m0_parity.metrics import joined, logit_gap
from m0_parity.names import LOGITS, Place, rank
from m0_parity.recording import Recording, Request, Rows
from m0_parity.validate import suspicions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from m0_worker.adapters import ModelAdapter
    from m0_worker.devices.interface import Device

    from m0_parity.capture import Work, WorkerSettings
    from m0_parity.metrics import LogitGap

    Floats = npt.NDArray[np.float32]


_SILENCE: Final = 5.0
"""Seconds between two lines of progress."""


@dataclass(slots=True)
class Outcome:
    """What a sweep found.

    Attributes:
        comparison: the free view, every cell of it.
        worst: the free cell that uses most of its bound.
        bound: of that cell.
        divergence: the first place where the worker goes wrong, or None.
        scores: the largest attention score of each layer.
        layers: how many were looked at; fewer than the model has where the search ended at the first mistake.
        base: the bound of free checkpoints where rounding in attention is small.
        local: NMSE of the operation where the worker goes wrong, or 0.
        local_bound: what it may have.
    """

    comparison: Comparison
    worst: Cell
    bound: float
    divergence: Divergence | None
    scores: dict[int, float]
    layers: int
    base: float
    local: float = 0.0
    local_bound: float = 0.0


@dataclass(slots=True)
class _Wrong:
    """The first operation that is off on its own, and what is needed to say what it looks like."""

    cell: Cell
    diagnosis: str
    replayed: float
    also: set[Place] = field(default_factory=set)


class Sweep:
    """One comparison of the worker on ``path`` with llama.cpp on the twins of ``sound``'s layers.

    Args:
        path: what the worker runs.
        sound: what llama.cpp runs; the same file unless a mistake was planted in ``path``.
        scratch: folder for the twin of one layer at a time.
        base: NMSE that a free checkpoint may have (see Bounds).
        tell: is told what is being done, a line at a time.
        trust: go on although the reference looks damaged.
        brief: end at the layer with the first mistake.
    """

    def __init__(
        self,
        path: Path,
        work: Sequence[Work],
        settings: WorkerSettings,
        *,
        scratch: Path,
        base: float,
        sound: Path | None = None,
        tell: Callable[[str], None] = lambda _: None,
        trust: bool = False,
        brief: bool = False,
    ) -> None:
        self._path, self._sound = path, sound or path
        self._work, self._settings = work, settings
        self._slices = Slices(Scan(self._sound), scratch / "layer.gguf")
        self._base, self._tell, self._trust, self._brief = base, tell, trust, brief
        self._wrong: _Wrong | None = None
        self._cells: list[Cell] = []
        self._inputs: dict[str, Floats] = {}
        self._adapter: ModelAdapter
        self._device: Device
        self._start = self._told = time.perf_counter()

    def run(self) -> Outcome:
        """Sweep the model.

        Raises:
            IncomparableError: the reference looks damaged, or the two have nothing in common.
            GgufError: the worker refuses the file.
            ReferenceUnavailableError: no llama.cpp, or it refuses a layer.
        """
        device: Device = open_device("cpu", 0)
        if isinstance(device, CpuDevice):
            device.half_attention = self._settings.half_attention
        gguf = GgufFile.open(self._path)
        try:
            model = load_model(
                gguf,
                device,
                n_ctx=self._settings.context,
                kv_dtype=self._settings.kv,
                yarn_rounding=self._settings.yarn_rounding,
                gelu_table=self._settings.gelu_table,
            )
            self._adapter, self._device = model.adapter, device
            return self._sweep(gguf)
        finally:
            device.close()
            gguf.close()

    def _sweep(self, gguf: GgufFile) -> Outcome:
        adapter, device = self._adapter, self._device
        reference_settings = llamacpp.Settings(kv=self._settings.kv)
        chain = ReferenceChain(self._slices, self._work, reference_settings, self._settings.context)
        scale = float(getattr(adapter, "scale", adapter.cache.head_dim**-0.5))
        bounds = Bounds(self._base, Heads(adapter.cache.head_dim, scale), gelu_table=self._settings.gelu_table)
        result = Comparison(self._provenance_of_reference(reference_settings), self._provenance(), [])
        result.tokens = {item.id: (item.tokens, len(item.prompt)) for item in self._work}
        texts = gguf.metadata.get("tokenizer.ggml.tokens")
        result.vocabulary = [str(text) for text in texts] if isinstance(texts, list | tuple) else []
        seen = 0
        with Lockstep(adapter, device, self._work) as free, Lockstep(adapter, device, self._work) as forced:
            for layer in range(self._slices.layers):
                self._inputs = dict(chain.outputs)
                reference = chain.layer(layer)
                self._check(reference)
                bounds.learn(layer, reference)
                self._measure(result, bounds, reference, free.layer(layer), forced.layer(layer, reference))
                seen = layer + 1
                if self._brief and self._wrong is not None:
                    break
                self._report(layer)
            else:
                self._inputs = dict(chain.outputs)
                reference = chain.head()
                self._check(reference)
                bounds.learn(-1, reference)
                self._measure_head(result, bounds, reference, free, forced)
        self._cells.sort(key=lambda c: rank(c.place))
        result.cells = self._cells
        at = max(range(len(self._cells)), key=lambda i: self._excess_of(self._cells[i], bounds))
        worst = self._cells[at]
        divergence = self._divergence(result, bounds)
        bound = bounds.free(worst.request, worst.place)
        outcome = Outcome(result, worst, bound, divergence, bounds.scores, seen, self._base)
        if self._wrong is not None:
            first = self._wrong.cell
            outcome.local, outcome.local_bound = first.judged(bounds.local(first.request, first.place))
        return outcome

    def _excess_of(self, one: Cell, bounds: Bounds) -> float:
        return one.excess(bounds.free(one.request, one.place))

    # One layer -------------------------------------------------------------------------------------------------------

    def _check(self, reference: Recording) -> None:
        if not self._trust and (doubts := suspicions(reference)):
            raise IncomparableError(f"reference suspect: {doubts[0]}; --trust-reference goes on")

    def _measure(
        self, result: Comparison, bounds: Bounds, reference: Recording, free: Recording, forced: Recording
    ) -> None:
        for request in reference:
            ours, theirs = free.requests[request.id], request
            result.only_reference = _merged(result.only_reference, theirs.rows.keys() - ours.rows.keys())
            result.only_candidate = _merged(result.only_candidate, ours.rows.keys() - theirs.rows.keys())
            for place in sorted(theirs.rows.keys() & ours.rows.keys(), key=rank):
                self._cells.append(cell(request.id, place, theirs.rows[place], ours.rows[place]))
        self._judge(
            bounds,
            [
                cell(request.id, place, request.rows[place], forced.requests[request.id].rows[place])
                for request in reference
                for place in request.rows.keys() & forced.requests[request.id].rows.keys()
            ],
            reference,
            forced,
        )

    def _judge(self, bounds: Bounds, cells: list[Cell], reference: Recording, forced: Recording) -> None:
        """Keep the first operation that is wrong on its own, and the places of the others."""
        wrong = [c for c in cells if c.excess(bounds.local(c.request, c.place)) > 1]
        if not wrong:
            return
        if self._wrong is None:
            first = min(wrong, key=lambda c: rank(c.place))
            self._wrong = _Wrong(first, diagnose(first.place, reference, forced), self._replayed(first, reference))
        self._wrong.also |= {c.place for c in wrong} - {self._wrong.cell.place}

    def _replayed(self, first: Cell, reference: Recording) -> float:
        """NMSE at the place when the worker gets the reference's input of that layer and computes on by itself."""
        layer, name = first.place
        if name in {"embd", "inpL"}:
            return first.nmse  # nothing comes before
        at = self._slices.layers if layer < 0 else layer
        source = (at - 1, "l_out") if at else (-1, "inpL" if (-1, "inpL") in _any(reference).rows else "embd")
        given = reference if not at else Recording({}, {i.id: self._input(i, source) for i in self._work})
        with Lockstep(self._adapter, self._device, self._work, only=frozenset({source})) as replay:
            shown = Recording({})
            for i in range(min(at + 1, self._slices.layers)):
                shown = replay.layer(i, given if i == max(0, at - 1) or not at else None)
            pieces = replay.head() if layer < 0 else ((request, 0) for request in shown)
            sums = CellSums()
            for ours, start in pieces:
                if ours.id == first.request:
                    pairs = _pairs(reference.requests[ours.id], ours, start)
                    for _, part, theirs in (pair for pair in pairs if pair[0] == first.place):
                        sums.add(theirs.positions, theirs.values, part.values)
        return sums.cell(first.request, first.place).nmse

    def _input(self, item: Work, source: Place) -> Request:
        values = self._inputs[item.id]
        rows = Rows(np.arange(len(values)), values, values.shape[1])
        return Request(item.id, item.tokens, len(item.prompt), {source: rows})

    def _measure_head(
        self, result: Comparison, bounds: Bounds, reference: Recording, free: Lockstep, forced: Lockstep
    ) -> None:
        """The last norm and the logits, a pass at a time: logits of all positions take room."""
        gaps: dict[str, list[LogitGap]] = {}
        sums: dict[tuple[str, Place], CellSums] = {}
        for ours, at in free.head():
            for place, part, theirs in _pairs(reference.requests[ours.id], ours, at):
                sums.setdefault((ours.id, place), CellSums()).add(theirs.positions, theirs.values, part.values)
                if place[1] == LOGITS and theirs.values.shape == part.values.shape:
                    gaps.setdefault(ours.id, []).append(logit_gap(theirs.values, part.values))
        self._cells += [one.cell(request, place) for (request, place), one in sums.items()]
        result.logits = {request: joined(parts) for request, parts in gaps.items()}
        self._judge_head(bounds, reference, forced)

    def _judge_head(self, bounds: Bounds, reference: Recording, forced: Lockstep) -> None:
        """As _judge; of each place the longest pass that is off is kept to say what it looks like."""
        sums: dict[tuple[str, Place], CellSums] = {}
        kept: dict[tuple[str, Place], tuple[int, Recording, Recording]] = {}
        for ours, at in forced.head(reference):
            theirs = reference.requests[ours.id]
            for place, part, due in _pairs(theirs, ours, at):
                key = ours.id, place
                sums.setdefault(key, CellSums()).add(due.positions, due.values, part.values)
                off = cell(*key, due, part).excess(bounds.local(*key)) > 1
                if off and (key not in kept or len(part.values) > kept[key][0]):
                    kept[key] = len(part.values), _alone(theirs, place, due), _alone(ours, place, part)
        wrong = [one.cell(*key) for key, one in sums.items()]
        wrong = [c for c in wrong if c.excess(bounds.local(c.request, c.place)) > 1]
        if wrong and self._wrong is None:
            first = min(wrong, key=lambda c: rank(c.place))
            _, expected, seen = kept[first.request, first.place]
            self._wrong = _Wrong(first, diagnose(first.place, expected, seen), self._replayed(first, reference))
        if self._wrong is not None:
            self._wrong.also |= {c.place for c in wrong} - {self._wrong.cell.place}

    # What is said ----------------------------------------------------------------------------------------------------

    def _report(self, layer: int) -> None:
        """Say how far it is and how long it may take: after the first layer, then every few seconds."""
        now = time.perf_counter()
        layers, rest = self._slices.layers, self._slices.layers - layer - 1
        if layer and rest and now - self._told < _SILENCE:
            return
        self._told = now
        # The output matrix takes as long as the layers whose size it has.
        head = 4 * self._slices.vocabulary * self._slices.width / max(1, self._slices.layer_bytes)
        left = (now - self._start) / (layer + 1) * (rest + head)
        what = f"layer {layer + 1} of {layers}" if rest else "the layers are done, now the logits"
        self._tell(f"  {what}, {now - self._start:.0f} s; about {max(1.0, left):.0f} s to go")

    def _divergence(self, result: Comparison, bounds: Bounds) -> Divergence | None:
        if self._wrong is not None:
            first = self._wrong.cell
            shown = next(c for c in result.cells if c.place == first.place and c.request == first.request)
            return Divergence(
                place=first.place,
                request=first.request,
                position=first.first_position(bounds.local(first.request, first.place)),
                nmse=shown.nmse,
                local=first.nmse,
                layer_replayed=self._wrong.replayed,
                confirmed=True,
                diagnosis=self._wrong.diagnosis,
                also=tuple(sorted(self._wrong.also, key=rank)),
            )
        over = [c for c in result.cells if self._excess_of(c, bounds) > 1]
        if not over:
            return None
        first = over[0]
        return Divergence(
            place=first.place,
            request=first.request,
            position=first.first_position(bounds.free(first.request, first.place)),
            nmse=first.nmse,
            local=0.0,
            layer_replayed=float("nan"),
            confirmed=False,
            diagnosis="no single operation is off: small differences add up",
        )

    def _provenance_of_reference(self, settings: llamacpp.Settings) -> dict[str, object]:
        return {
            **llamacpp.provenance(),
            "model": self._sound.name,
            "twin_of": sha256(self._sound),
            "architecture": Scan(self._sound).architecture,
            "settings": settings.describe() | {"context": self._settings.context, "weights": "float32 twin, by layer"},
        }

    def _provenance(self) -> dict[str, object]:
        return {
            "engine": "m0-worker",
            "model": self._path.name,
            "model_sha256": sha256(self._path),
            "architecture": Scan(self._path).architecture,
            "settings": {"kv": self._settings.kv, "device": "cpu", "context": self._settings.context},
        }


def _merged(known: list[Place], more: set[Place]) -> list[Place]:
    return sorted({*known, *more}, key=rank)


def _pairs(reference: Request, ours: Request, at: int) -> list[tuple[Place, Rows, Rows]]:
    """The places of a pass that starts at position ``at``: the worker's rows and the reference's of the same tokens."""
    found = []
    for place, rows in ours.rows.items():
        if place in reference.rows:
            theirs = reference.rows[place]
            span = slice(at, at + len(rows.values))
            found.append((place, rows, Rows(theirs.positions[span], theirs.values[span], theirs.features)))
    return found


def _any(recording: Recording) -> Request:
    return next(iter(recording))


def _alone(request: Request, place: Place, rows: Rows) -> Recording:
    """A recording of nothing but one place of one request."""
    return Recording({}, {request.id: Request(request.id, request.tokens, request.prompt, {place: rows})})
