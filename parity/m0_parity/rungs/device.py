"""T4: the worker's CUDA kernels against its CPU device, which T2 has proved equal to llama.cpp.

Weights stay in their blocks on the GPU and prompts run through half-precision tensor cores, hence the bound for
FP16 kernels of the ladder.

A router's choice is a step: where two experts are nearly equal, an error far below the bound picks the other one, and
everything behind that token differs by much more. So a model with experts that exceeds the bound is measured again with
the CPU device following the CUDA device's choices. Each of them must then be a near-tie by the CPU's own router, whose
logits are held to the same bound, and every other checkpoint must be within it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from m0_models.miniatures import Recipe
from m0_models.recipes import RECIPES
from m0_models.shapes import ARCHITECTURES

from m0_parity.capture import WorkerSettings, record_worker, workload
from m0_parity.compare import compare
from m0_parity.names import INTEGERS
from m0_parity.rungs.base import Bench, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from m0_parity.capture import Work
    from m0_parity.compare import Comparison
    from m0_parity.recording import Recording

BOUND: Final = 1e-5
TIE: Final = 6.0
"""A margin is a tie within so many times the largest error of the row's router logits, as for tokens (T6)."""
_ROUTED: Final = frozenset({"ffn_moe_topk", "ffn_moe_weights_softmax"})


def rung(bench: Bench) -> Iterator[Row]:
    """One row per architecture and recipe; a single row that says why where there is no device."""
    if shutil.which("nvidia-smi") is None:
        yield Row("T4", "CUDA kernels", float("nan"), BOUND, "needs an NVIDIA device: not tried here", ran=False)
        return
    work = workload(320, length=bench.length, decode=bench.decode)
    for architecture in ARCHITECTURES:
        for quant in RECIPES:
            recipe = Recipe(f"{architecture}-{quant}".lower(), architecture, quant)
            yield measure(recipe.name, bench.model(recipe), work)


def measure(label: str, path: Path, work: Sequence[Work]) -> Row:
    """One model on both devices."""
    settings = WorkerSettings(kv="f16")
    ours = record_worker(path, work, WorkerSettings(kv="f16", device="cuda"))
    reference = record_worker(path, work, settings)
    row = _row(label, compare(reference, ours))
    others, margin = choices(reference, ours)
    if row.passed or not others:
        return row
    routed = frozenset(place for place in next(iter(ours.requests.values())).rows if place[1] in _ROUTED)
    follower = record_worker(path, work, settings, forced=ours, only=routed)
    others, margin = choices(follower, ours)
    if margin > TIE:
        row.note += f"; {others} choices of experts differ, by up to {margin:.1f} times the router's error: no ties"
        return row
    row = _row(label, compare(follower, ours))
    row.note += (
        f"; {others} choices of experts are ties decided otherwise, within {margin:.1f} times the router's error"
    )
    return row


def _row(label: str, comparison: Comparison) -> Row:
    # Ids are no magnitudes: `choices` compares them, as sets, for their order follows the weights beside them.
    worst = max((cell for cell in comparison.cells if cell.place[1] not in INTEGERS), key=lambda cell: cell.nmse)
    layer, name = worst.place
    where = name if layer < 0 else f"{name} of layer {layer}"
    return Row("T4", label, worst.nmse, BOUND, f"{len(comparison.cells)} cells; worst {where}", comparison)


def choices(reference: Recording, candidate: Recording) -> tuple[int, float]:
    """How many tokens' choices of experts differ, and their largest margin in errors of the router's logits.

    The margin is by the reference's router: its best expert that the candidate left out, less the worst that the
    candidate took. The error is the largest difference of the two sides' logits in that row.
    """
    count, worst = 0, 0.0
    for name, request in reference.requests.items():
        other = candidate.requests[name]
        for (layer, checkpoint), rows in request.rows.items():
            if checkpoint not in INTEGERS:
                continue
            logits = request.rows[layer, "ffn_moe_probs"].values
            theirs = other.rows[layer, "ffn_moe_probs"].values
            for row, (a, b) in enumerate(
                zip(_sets(rows.values), _sets(other.rows[layer, checkpoint].values), strict=True)
            ):
                if a == b:
                    continue
                count += 1
                margin = max(logits[row, i] for i in a - b) - min(logits[row, i] for i in b - a)
                worst = max(
                    worst, float(margin / max(np.abs(logits[row] - theirs[row]).max(), np.finfo(np.float32).tiny))
                )
    return count, worst


def _sets(ids: np.ndarray[Any, np.dtype[Any]]) -> list[set[int]]:
    return [{int(i) for i in row} for row in ids]
