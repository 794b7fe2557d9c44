"""Climbing the tolerance ladder T0 to T7, rung by rung, each row as soon as it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from m0_parity.perturb import PERTURBATIONS
from m0_parity.rungs import (
    checkpoints,
    dequantization,
    device,
    perturbations,
    products,
    quantized,
    sampler,
    tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from m0_parity.rungs.base import Bench, Row

TITLES: Final = {
    "T0": "Token ids equal",
    "T1": "Dequantization equal, bit for bit",
    "T2": "Every checkpoint equal to float32 rounding",
    "T3": "Quantized products equal, activations rounded as ggml does",
    "T4": "CUDA kernels equal to the CPU device",
    "T5": "Quantized models within twice llama.cpp's own spread",
    "T6": "Greedy tokens equal, or their margin explains it",
    "T7": "Sampler: survivors, probabilities, drawn tokens equal",
    "selftest": "Perturbed models found and placed",
    "run": "One model",
    "compare": "Two recordings",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How thorough to be."""

    strings: int = 2000
    """Texts per tokenizer backend; 100,000 is the full count."""
    vocabularies: Path | None = None
    jobs: int = 1


def climb(bench: Bench, plan: Plan, only: Collection[str] = ()) -> Iterator[Row]:
    """All rows of all rungs, or of those in ``only``."""
    rungs: dict[str, Callable[[], Iterator[Row]]] = {
        "T0": lambda: tokenizer.rung(plan.strings, plan.vocabularies, plan.jobs),
        "T1": dequantization.rung,
        "T2": lambda: checkpoints.rung(bench),
        "T3": lambda: products.rung(bench),
        "T4": lambda: device.rung(bench),
        "T5": lambda: quantized.free_running(bench),
        "T6": lambda: quantized.greedy(bench),
        "T7": sampler.rung,
        "selftest": lambda: perturbations.rung(PERTURBATIONS.values(), bench.folder),
    }
    for name, rung in rungs.items():
        if not only or name in only:
            yield from rung()
