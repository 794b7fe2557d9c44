"""T2: every common checkpoint against llama.cpp, F32 files and the float32 twins of quantized ones.

The worker runs on the quantized file, llama.cpp on its twin: the same weights, so the same numbers to float32 rounding.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from m0_models.miniatures import Recipe
from m0_models.recipes import RECIPES
from m0_models.shapes import ARCHITECTURES

from m0_parity.capture import WorkerSettings, record_llamacpp, record_worker, sha256, workload
from m0_parity.compare import compare
from m0_parity.divergence import free_bound, local_bound, locate
from m0_parity.llamacpp import Settings
from m0_parity.rungs.base import Bench, Row
from m0_parity.validate import suspicions

if TYPE_CHECKING:
    from collections.abc import Iterator

HALF_BOUND: Final = 1e-6
SHARP: Final = 2.0
"""Scores of standard deviation 4: softmax amplifies differences, and an error that mild attention would hide shows."""
_OPTIONS: Final[tuple[tuple[str, Any, str, dict[str, Any]], ...]] = (
    ("qwen2-tied", "qwen2", "F32", {"tied": True}),
    ("qwen2-fallback-q4_k_m", "qwen2", "Q4_K_M", {"width": 192, "heads": 3, "kv_heads": 1, "tied": True}),
    ("llama-rope-freqs", "llama", "F32", {"rope_freqs": True}),
    ("llama-mha", "llama", "F32", {"kv_heads": 4}),
    ("phi3-longrope-long", "phi3", "F32", {"long_rope": 256, "context": 4096}),
    ("phi3-longrope-short", "phi3", "F32", {"long_rope": 512, "context": 4096}),
    ("phi3-partial-rope", "phi3", "F32", {"rope_dim": 48}),
    ("phi3-head-96", "phi3", "Q4_K_M", {"width": 384, "head_dim": 96, "kv_heads": 4}),
    ("gpt-oss-four-layers", "gpt-oss", "MXFP4", {"layers": 4}),
    *((f"{a}-sharp-q4_k_m", a, "Q4_K_M", {"sharpness": SHARP}) for a in ARCHITECTURES),
)


def recipes() -> Iterator[Recipe]:
    """Five architectures times five files, then the options of the families."""
    for architecture in ARCHITECTURES:
        for quant in RECIPES:
            yield Recipe(f"{architecture}-{quant}".lower(), architecture, quant)
    for option in _OPTIONS:
        yield Recipe(*option)


def measure(bench: Bench, recipe: Recipe, settings: WorkerSettings | None = None) -> Row:
    """One model: prompt of ``bench.length`` tokens, decode steps, a second request in the same process."""
    settings = settings or WorkerSettings()
    path, oracle = bench.model(recipe), bench.twin(recipe)
    work = workload(320, length=bench.length, decode=bench.decode)
    reference = record_llamacpp(oracle, work, Settings(kv=settings.kv))
    if oracle != path:
        reference.provenance |= {"twin_of": sha256(path), "model": path.name}
    bound = free_bound(recipe.architecture) if settings.kv == "f32" else HALF_BOUND
    label = recipe.name if settings.kv == "f32" else f"{recipe.name}, FP16 KV"
    label += ", compiled" if settings.compiled else ""
    if doubts := suspicions(reference):
        return Row("T2", label, float("inf"), bound, f"reference suspect: {doubts[0]}")
    free = compare(reference, record_worker(path, work, settings))
    worst = free.worst()
    row = Row("T2", label, *free.judged(bound), f"{len(free.cells)} cells; worst {_at(worst.place)}", free)
    if not row.passed:
        row.divergence = locate(path, work, reference, free, settings, bound=bound)
        if row.divergence is not None:
            row.note = row.divergence.sentence()
    return row


def _at(place: tuple[int, str]) -> str:
    return place[1] if place[0] < 0 else f"{place[1]}-{place[0]}"


def rung(bench: Bench) -> Iterator[Row]:
    """All models with an F32 cache, by NumPy and by compiled kernels; the F32 ones with an FP16 cache; gpt2's table."""
    for recipe in recipes():
        yield measure(bench, recipe)
        yield measure(bench, recipe, WorkerSettings(compiled=True))
    for architecture in ARCHITECTURES:
        recipe = Recipe(f"{architecture}-f32", architecture, "F32")
        # llama.cpp rounds queries and softmax weights too; the worker is told to, or the gap would be 1e-6 to 2e-6
        yield measure(bench, recipe, WorkerSettings(kv="f16", half_attention=True, gelu_table=architecture == "gpt2"))
    yield _table(bench)


def _table(bench: Bench) -> Row:
    """gpt2 with the GELU table emulated, each operation from llama.cpp's own inputs."""
    recipe = Recipe("gpt2-f32", "gpt2", "F32")
    path = bench.model(recipe)
    work = workload(320, length=bench.length, decode=bench.decode)
    reference = record_llamacpp(path, work)
    settings = replace(WorkerSettings(), gelu_table=True)
    forced = compare(reference, record_worker(path, work, settings, forced=reference))
    worst = forced.worst()
    bound = local_bound((0, "ffn_gelu"))
    return Row("T2", "gpt2-f32, table GELU, by operation", worst.nmse, bound, f"worst {_at(worst.place)}")
