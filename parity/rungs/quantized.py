"""T5 and T6: the worker on a quantized file against llama.cpp on the same file, each computing freely.

The worker multiplies by exact float32 activations, llama.cpp by 8-bit ones, so they differ as much as llama.cpp differs
from itself under other options. T5 holds the worker to twice that spread, measured in the same run; T6 feeds
llama.cpp's own greedy tokens and lets no choice differ that the margin does not explain.

A choice is discrete: where two candidates are nearly equal, the smallest difference turns it. Such flips are counted
and must be explained by their margin, of the next token (T5, T6) and of the experts in gpt-oss (T5), whose tokens are
then left out of the gap, for the worker and llama.cpp's variants alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from models.miniatures import Recipe
from models.shapes import ARCHITECTURES
from parity.capture import CONTEXT, Work, record_llamacpp, record_worker, workload
from parity.compare import Comparison, compare
from parity.llamacpp import Context, Model, Settings
from parity.metrics import nmse
from parity.names import LOGITS
from parity.rungs.base import Bench, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from parity.recording import Recording

BOUND: Final = 2e-3
QUANTS: Final = ("Q4_0", "Q5_0", "Q8_0", "Q4_K_M", "Q6_K", "MXFP4")
GREEDY: Final = 64
_ONLY: Final = frozenset({LOGITS, "ffn_moe_topk", "ffn_moe_probs"})
_EXPLAINED: Final = 6.0
"""A flip is explained if the margin is at most this many root mean squares of the difference."""
_VARIANTS: Final = {
    "repack": (Settings(repack=True), False),
    "flash attention": (Settings(flash_attention=True, kv="f16"), False),
    "one by one": (Settings(), True),
}
"""llama.cpp's own ways to compute the same: name to (settings, prompt token by token)."""


def free_running(bench: Bench) -> Iterator[Row]:
    """T5 for each architecture and recipe."""
    for architecture in ARCHITECTURES:
        for quant in QUANTS:
            yield _free_running(bench, Recipe(f"{architecture}-{quant}".lower(), architecture, quant))


def greedy(bench: Bench) -> Iterator[Row]:
    """T6 for each architecture, on F32 and two quantized files."""
    for architecture in ARCHITECTURES:
        for quant in ("F32", "Q4_K_M", "MXFP4"):
            yield _greedy(bench, Recipe(f"{architecture}-{quant}".lower(), architecture, quant))


def _free_running(bench: Bench, recipe: Recipe) -> Row:
    path = bench.model(recipe)
    work = workload(320, length=bench.length, decode=0)
    reference = record_llamacpp(path, work, names=_ONLY)
    spread = {
        name: _gap(reference, record_llamacpp(path, work, settings, one_by_one=single, names=_ONLY)).nmse
        for name, (settings, single) in _VARIANTS.items()
    }
    ours = record_worker(path, work, names=_ONLY)
    free, gap = compare(reference, ours), _gap(reference, ours)
    twin = _gap(reference, record_llamacpp(bench.twin(recipe), work, names=_ONLY)).nmse
    most = max(spread, key=lambda name: spread[name])
    bound = min(BOUND, 2 * spread[most])
    kl, flips, unexplained = _choices(free)
    allowed = BOUND * _variance(reference)
    note = (
        f"llama.cpp's own spread {spread[most]:.1e} ({most}), its float32 twin {twin:.1e}; "
        f"mean KL {kl:.1e}; {flips} flips"
    )
    if gap.routed:
        note += f"; {gap.routed} of {gap.tokens} tokens routed otherwise"
    row = Row("T5", recipe.name, gap.nmse, bound, note, free)
    if kl > allowed:
        row.measured, row.note = float("inf"), f"mean KL {kl:.1e} exceeds {allowed:.1e}; {note}"
    elif unexplained or gap.unexplained:
        total = unexplained + gap.unexplained
        row.measured, row.note = float("inf"), f"{total} flips outside their margin; {note}"
    return row


@dataclass(frozen=True, slots=True)
class _Gap:
    """The logits' NMSE over the tokens whose experts are the same on both sides (all tokens of a dense model)."""

    nmse: float
    tokens: int
    routed: int
    """Tokens that some layer sent to other experts."""
    unexplained: int
    """Of those, routed otherwise in their first such layer against a margin that is not small."""


def _gap(reference: Recording, candidate: Recording) -> _Gap:
    a, b = (np.concatenate([r.logits().values for r in side]) for side in (reference, candidate))
    steady, unexplained = np.ones(len(a), dtype=bool), 0
    layers = sorted({layer for r in reference for layer, name in r.rows if name == "ffn_moe_topk"})
    for layer in layers:
        chosen, theirs = (_joined(side, layer, "ffn_moe_topk") for side in (reference, candidate))
        same = (np.sort(chosen, axis=1) == np.sort(theirs, axis=1)).all(axis=1)
        router, other = (_joined(side, layer, "ffn_moe_probs") for side in (reference, candidate))
        rms = float(np.sqrt(np.square(router - other)[steady].mean()))
        ranked = -np.sort(-router, axis=1)
        margin = ranked[:, chosen.shape[1] - 1] - ranked[:, chosen.shape[1]]
        unexplained += int(np.count_nonzero(steady & ~same & (margin > _EXPLAINED * rms)))
        steady &= same
    return _Gap(nmse(a[steady], b[steady]), len(a), int(np.count_nonzero(~steady)), unexplained)


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
    free = compare(reference, record_worker(path, work, names=_ONLY))
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
