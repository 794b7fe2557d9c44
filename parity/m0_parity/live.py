"""The worker beside llama.cpp on one file, layer by layer: what `m0-parity run MODEL` does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from m0_parity import llamacpp
from m0_parity.divergence import free_bound
from m0_parity.feed import context_of, look, work_of
from m0_parity.layerwise.bounds import score_rounding
from m0_parity.layerwise.sweep import Sweep
from m0_parity.rungs.base import Row
from m0_parity.rungs.checkpoints import HALF_BOUND

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from m0_parity.capture import WorkerSettings
    from m0_parity.layerwise.sweep import Outcome


def one_model(options: argparse.Namespace, settings: WorkerSettings, folder: Path, tell: Callable[[str], None]) -> Row:
    """Prove one file; ``folder`` takes the twin of a layer at a time.

    Raises:
        GgufError: damaged, or no model that the worker can run.
        IncomparableError: token ids that do not fit, or a reference that looks damaged.
        ReferenceUnavailableError: no llama.cpp, or it refuses the file.
    """
    path: Path = options.model
    model = look(path)
    llamacpp.library()
    work = work_of(options, path, model)
    tell(f"{path.name}: {model.sentence()}")
    fed = " and ".join(f"{len(item.prompt)} + {len(item.decode)}" for item in work)
    tell(f"feeding {fed} tokens (prompt + decode steps) to llama.cpp and the worker, a layer at a time")
    settings = replace(settings, context=min(context_of(work), model.context))
    base = free_bound(model.architecture) if settings.kv == "f32" else HALF_BOUND
    sweep = Sweep(path, work, settings, scratch=folder, base=base, tell=tell, trust=options.trust_reference)
    return row_of(path.name, sweep.run())


def row_of(label: str, found: Outcome) -> Row:
    """The outcome as a row: measured and allowed are those of the cell that uses most of its bound."""
    measured, bound = found.worst.judged(found.bound)
    row = Row("run", label, measured, bound, _note(found), found.comparison)
    row.divergence = found.divergence
    row.missing = found.comparison.missing()
    if found.divergence is not None and found.divergence.confirmed and measured <= bound:
        # Every free checkpoint is within its bound and one operation is not: that one is the measure.
        row.measured, row.bound = found.local, found.local_bound
    return row


def _note(found: Outcome) -> str:
    cells, requests = len(found.comparison.cells), len(found.comparison.tokens)
    note = f"{cells} checkpoints of {requests} requests"
    layer, score = max(found.scores.items(), key=lambda item: item[1])
    if score_rounding(score) > found.base / 10:
        note += f"; scores reach {score:,.0f} in layer {layer}, where float32 may differ by {score_rounding(score):.1e}"
    flips = sum(int((~gap.top1).sum()) for gap in found.comparison.logits.values())
    positions = sum(len(gap.top1) for gap in found.comparison.logits.values())
    if positions:
        note += f"; same first token at {positions - flips} of {positions} positions"
    return note
