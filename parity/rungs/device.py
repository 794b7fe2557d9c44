"""T4: the worker's CUDA kernels against its CPU device, which T2 has proved equal to llama.cpp.

Weights stay in their blocks on the GPU and prompts run through half-precision tensor cores, hence the bound for
FP16 kernels of the ladder.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from models.miniatures import Recipe
from models.shapes import ARCHITECTURES
from parity.capture import WorkerSettings, record_worker, workload
from parity.compare import compare
from parity.rungs.base import Bench, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUND: Final = 1e-5
QUANTS: Final = ("F32", "F16", "BF16", "Q4_0", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "Q4_K_M", "MXFP4")


def rung(bench: Bench) -> Iterator[Row]:
    """One row per architecture and recipe; a single row that says why where there is no device."""
    if shutil.which("nvidia-smi") is None:
        yield Row("T4", "CUDA kernels", float("nan"), BOUND, "needs an NVIDIA device: not tried here", ran=False)
        return
    work = workload(320, length=bench.length, decode=bench.decode)
    for architecture in ARCHITECTURES:
        for quant in QUANTS:
            recipe = Recipe(f"{architecture}-{quant}".lower(), architecture, quant)
            path = bench.model(recipe)
            reference = record_worker(path, work, WorkerSettings(kv="f16"))
            free = compare(reference, record_worker(path, work, WorkerSettings(kv="f16", device="cuda")))
            layer, name = free.worst().place
            row = Row("T4", recipe.name, free.worst().nmse, BOUND, f"{len(free.cells)} cells; worst {name}", free)
            row.note += "" if layer < 0 else f" of layer {layer}"
            yield row
