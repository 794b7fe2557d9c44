"""A model proved layer by layer: llama.cpp, the worker running freely, and the worker from llama.cpp's own inputs.

Three views go through the layers together, and each layer is forgotten when it has been measured. *Free* shows what a
user gets: both engines compute on from their own results. *Forced* shows whose fault a difference is: every operation
is repeated from the reference's inputs, so that an error shows where it is made and nowhere else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from m0_models.scan import Scan
from m0_worker.devices import open_device
from m0_worker.devices.cpu.device import CpuDevice
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile

from m0_parity import llamacpp
from m0_parity.capture import sha256
from m0_parity.compare import Comparison, IncomparableError
from m0_parity.layerwise.bounds import Bounds, Heads
from m0_parity.layerwise.judge import Judge
from m0_parity.layerwise.lockstep import Lockstep
from m0_parity.layerwise.reference import ReferenceChain
from m0_parity.layerwise.replay import Replay
from m0_parity.layerwise.slices import Slices
from m0_parity.names import rank
from m0_parity.validate import suspicions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from m0_worker.devices.interface import Device
    from m0_worker.engine import Model

    from m0_parity.capture import Work, WorkerSettings
    from m0_parity.compare import Cell
    from m0_parity.divergence import Divergence
    from m0_parity.recording import Recording

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
            return self._sweep(model, gguf)
        finally:
            device.close()
            gguf.close()

    def _sweep(self, model: Model, gguf: GgufFile) -> Outcome:
        adapter, device, work = model.adapter, model.device, self._work
        settings = llamacpp.Settings(kv=self._settings.kv)
        chain = ReferenceChain(self._slices, work, settings, self._settings.context)
        bounds = Bounds(self._base, Heads.of(Scan(self._sound)), gelu_table=self._settings.gelu_table)
        result = Comparison(self._provenance_of_reference(settings), self._provenance(), [])
        result.tokens = {item.id: (item.tokens, len(item.prompt)) for item in work}
        texts = gguf.metadata.get("tokenizer.ggml.tokens")
        result.vocabulary = [str(text) for text in texts] if isinstance(texts, list | tuple) else []
        replay = Replay(adapter, device, work, self._slices.layers)
        judge = Judge(result, bounds, replay)
        seen = 0
        with Lockstep(adapter, device, work) as free, Lockstep(adapter, device, work) as forced:
            for layer in range(self._slices.layers):
                replay.inputs = dict(chain.outputs)
                reference = self._sound_one(chain.layer(layer))
                bounds.learn(layer, reference)
                judge.layer(reference, free.layer(layer), forced.layer(layer, reference))
                seen = layer + 1
                if self._brief and judge.wrong is not None:
                    break
                self._report(layer)
            else:
                replay.inputs = dict(chain.outputs)
                reference = self._sound_one(chain.head())
                bounds.learn(-1, reference)
                judge.head(reference, free, forced)
        result.cells.sort(key=lambda c: rank(c.place))
        worst = judge.worst()
        bound = bounds.free(worst.request, worst.place)
        outcome = Outcome(result, worst, bound, judge.divergence(), bounds.scores, seen, self._base)
        if judge.wrong is not None:
            first = judge.wrong.cell
            outcome.local, outcome.local_bound = first.judged(bounds.local(first.request, first.place))
        return outcome

    def _sound_one(self, reference: Recording) -> Recording:
        if not self._trust and (doubts := suspicions(reference)):
            raise IncomparableError(f"reference suspect: {doubts[0]}; --trust-reference goes on")
        return reference

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
