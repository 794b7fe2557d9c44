"""T5 and T6: the worker on a quantized file against llama.cpp on the same file, each computing freely.

The worker multiplies by exact float32 activations, llama.cpp by 8-bit ones, so they differ as much as llama.cpp differs
from itself under other options. T5 holds the worker to twice that spread, measured in the same run; T6 feeds
llama.cpp's own greedy tokens and lets no choice differ that the margin does not explain.

A choice is discrete: where two candidates are nearly equal, the smallest difference turns it. Such flips are counted.
Those of the next token (T5, T6) must be explained by their margin. A token of gpt-oss that goes to other experts (T5)
computes something else from there on and is left out of the gap, for the worker and llama.cpp's variants alike; it is
explained if llama.cpp on the file's float32 twin, which rounds no activation either, sends it elsewhere too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from m0_models.miniatures import Recipe
from m0_models.recipes import RECIPES
from m0_models.shapes import ARCHITECTURES

from m0_parity.capture import CONTEXT, Work, WorkerSettings, record_llamacpp, record_worker, workload
from m0_parity.compare import Comparison, compare
from m0_parity.llamacpp import Context, Model, Settings
from m0_parity.metrics import nmse
from m0_parity.names import LOGITS
from m0_parity.rungs.base import Bench, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from m0_parity.recording import Recording

BOUND: Final = 2e-3
QUANTS: Final = tuple(recipe for recipe in RECIPES if recipe not in {"F32", "F16", "BF16"})
GREEDY: Final = 64
COMPILED: Final = WorkerSettings(compiled=True)
"""As a model is computed that people use; T2 shows that NumPy gives the same numbers."""
_ONLY: Final = frozenset({LOGITS, "ffn_moe_topk"})
_EXPLAINED: Final = 6.0
"""A flip is explained if the margin is at most this many root mean squares of the difference."""
_VARIANTS: Final = {
    "repack": (Settings(repack=True), False),
    "flash attention": (Settings(flash_attention=True, kv="f16"), False),
    "one by one": (Settings(), True),
    "all of these": (Settings(repack=True, flash_attention=True, kv="f16"), True),
}
"""llama.cpp's own ways to compute the same: name to (settings, prompt token by token)."""


def free_running(bench: Bench) -> Iterator[Row]:
    """T5 for each architecture and recipe."""
    for architecture in ARCHITECTURES:
        for quant in QUANTS:
            yield _free_running(bench, Recipe(f"{architecture}-{quant}".lower(), architecture, quant))


def greedy(bench: Bench) -> Iterator[Row]:
    """T6 for each architecture and recipe."""
    for architecture in ARCHITECTURES:
        for quant in RECIPES:
            yield _greedy(bench, Recipe(f"{architecture}-{quant}".lower(), architecture, quant))


def _free_running(bench: Bench, recipe: Recipe) -> Row:
    path = bench.model(recipe)
    work = workload(320, length=bench.length, decode=0)
    reference = record_llamacpp(path, work, names=_ONLY)
    spread = {
        name: _gap(reference, record_llamacpp(path, work, settings, one_by_one=single, names=_ONLY)).nmse
        for name, (settings, single) in _VARIANTS.items()
    }
    ours = record_worker(path, work, COMPILED, names=_ONLY)
    free, gap = compare(reference, ours), _gap(reference, ours)
    twin = _gap(reference, record_llamacpp(bench.twin(recipe), work, names=_ONLY))
    most = max(spread, key=lambda name: spread[name])
    bound = min(BOUND, 2 * spread[most])
    kl, flips, unexplained = _choices(free)
    allowed = BOUND * _variance(reference)
    note = (
        f"llama.cpp's own spread {spread[most]:.1e} ({most}), its float32 twin {twin.nmse:.1e}; "
        f"mean KL {kl:.1e}; {flips} flips"
    )
    if gap.rerouted.any() or twin.rerouted.any():
        note += (
            f"; {_routed(gap)} of {len(gap.rerouted)} tokens left out for their experts (the twin's: {_routed(twin)})"
        )
    row = Row("T5", recipe.name, gap.nmse, bound, note, free)
    if kl > allowed:
        row.measured, row.note = float("inf"), f"mean KL {kl:.1e} exceeds {allowed:.1e}; {note}"
    elif unexplained:
        row.measured, row.note = float("inf"), f"{unexplained} flips outside their margin; {note}"
    elif own := int(np.count_nonzero(gap.rerouted & ~twin.rerouted)):
        row.measured, row.note = (
            float("inf"),
            f"{own} tokens to other experts that the twin does not send there; {note}",
        )
    return row


@dataclass(frozen=True, slots=True)
class _Gap:
    """How far two recordings' logits are apart."""

    nmse: float
    """Over the tokens whose experts are the same on both sides (all tokens of a dense model)."""
    rerouted: npt.NDArray[np.bool_]
    """(tokens,) whether some layer sent it to other experts."""


def _gap(reference: Recording, candidate: Recording) -> _Gap:
    a, b = (np.concatenate([r.logits().values for r in side]) for side in (reference, candidate))
    steady = np.ones(len(a), dtype=bool)
    for layer in {layer for r in reference for layer, name in r.rows if name == "ffn_moe_topk"}:
        chosen, theirs = (np.sort(_joined(side, layer, "ffn_moe_topk"), axis=1) for side in (reference, candidate))
        steady &= (chosen == theirs).all(axis=1)
    return _Gap(nmse(a[steady], b[steady]), ~steady)


def _routed(gap: _Gap) -> int:
    return int(np.count_nonzero(gap.rerouted))


def _joined(recording: Recording, layer: int, name: str) -> npt.NDArray[np.float64]:
    return np.concatenate([r.rows[layer, name].values for r in recording]).astype(np.float64)


def _choices(comparison: Comparison) -> tuple[float, int, int]:
    """Mean KL, flipped first choices, and those that their margin does not explain."""
    gaps = comparison.logits.values()
    kl = float(np.concatenate([gap.kl for gap in gaps]).mean())
    flips = sum(int(np.count_nonzero(~gap.top1)) for gap in gaps)
    return kl, flips, sum(len(gap.unexplained(_EXPLAINED)) for gap in gaps)


def _variance(recording: Recording) -> float:
    return float(np.mean([request.logits().values.var() for request in recording]))


def _greedy(bench: Bench, recipe: Recipe) -> Row:
    """The worker reads what llama.cpp said, token by token, and says at each step what it would have said."""
    path = bench.model(recipe)
    prompt = workload(320, length=32, decode=0)[0].prompt
    spoken = _spoken(path, prompt)
    work = [Work("greedy", prompt, tuple(spoken[:-1]))]
    reference = record_llamacpp(path, work, names=_ONLY)
    free = compare(reference, record_worker(path, work, COMPILED, names=_ONLY))
    gap = free.logits["greedy"]
    first = len(prompt) - 1  # the prompt's last position chooses the first token
    flips = int(np.count_nonzero(~gap.top1[first:]))
    unexplained = sum(1 for row in gap.unexplained() if row >= first)
    margin = float(gap.margin[first:][~gap.top1[first:]].max(initial=0.0))
    note = f"{len(spoken)} tokens, {flips} flips" + (f", largest margin {margin:.3f}" if flips else "")
    return Row("T6", recipe.name, unexplained if recipe.quant != "F32" else flips, 0, note, free)


def _spoken(path: Path, prompt: Sequence[int]) -> list[int]:
    with Model(path) as model, Context(model, CONTEXT, Settings()) as context:
        tokens, _ = context.greedy(prompt, GREEDY)
    return tokens
