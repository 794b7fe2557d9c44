"""T3: one matrix product of a quantized file at a time, from llama.cpp's own input, activations rounded as ggml does.

llama.cpp's CPU code rounds activations to 8 bits before it multiplies. This rung repeats that rounding in NumPy, takes
the weights as the worker reads them, multiplies in float64, and meets llama.cpp's result to float32 rounding: so what
separates free-running quantized models (T5) is that rounding and nothing else.
Source: ggml-cpu's quantize_row_q8_0, quantize_row_q8_1 and quantize_row_q8_K.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import numpy as np
from m0_models.miniatures import Recipe
from m0_models.recipes import RECIPES
from m0_worker.gguf import GgmlType, GgufFile, dequantize

from m0_parity.capture import CONTEXT
from m0_parity.llamacpp import Context, Model, Settings, Tapped
from m0_parity.llamacpp.blocks import activation_type
from m0_parity.metrics import nmse
from m0_parity.rungs.base import Bench, Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

BOUND: Final = 1e-10
QUANTS: Final = tuple(recipe for recipe in RECIPES if recipe != "F32")
_PRODUCTS: Final = (  # weight, node of its input, node of its output
    ("attn_q", "attn_norm", "Qcur"),
    ("attn_k", "attn_norm", "Kcur"),
    ("attn_v", "attn_norm", "Vcur"),
    ("ffn_gate", "ffn_norm", "ffn_gate"),
    ("ffn_up", "ffn_norm", "ffn_up"),
    ("ffn_down", "ffn_swiglu", "ffn_out"),
)


def rounded(x: Floats, kind: str) -> npt.NDArray[np.float64]:
    """Activations (T, in) as ggml's dot product sees them after rounding them to type ``kind``."""
    match kind:
        case "F32":
            return x.astype(np.float64)
        case "F16":
            return x.astype(np.float16).astype(np.float64)
        case "BF16":
            bits = x.view(np.uint32)
            even = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32)
            return even.view(np.float32).astype(np.float64)
        case "Q8_0" | "Q8_1":
            q, scale = _eight_bits(x)
            return np.asarray(q * scale.astype(np.float16).astype(np.float64), dtype=np.float64).reshape(x.shape)
        case "Q8_K":
            blocks = x.reshape(*x.shape[:-1], -1, 256)
            at = np.abs(blocks).argmax(axis=-1)[..., None]
            extreme = np.take_along_axis(blocks, at, axis=-1)
            inverse = np.divide(np.float32(-127), extreme, out=np.zeros_like(extreme), where=extreme != 0)
            scale = np.divide(np.float32(1), inverse, out=np.zeros_like(inverse), where=inverse != 0)
            return (np.minimum(127, np.rint(blocks * inverse)) * scale.astype(np.float64)).reshape(x.shape)
        case _:
            raise ValueError(f"how ggml rounds activations to {kind} is not known here")


def _eight_bits(x: Floats) -> tuple[Floats, Floats]:
    """Whole numbers (T, blocks, 32) and the scales (T, blocks, 1) that ggml finds for them."""
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest != 0)
    return np.rint(blocks * inverse), largest / np.float32(127)


def product(x: Floats, raw: npt.NDArray[np.uint8], kind: GgmlType, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """X (T, in) times a stored matrix (out, in), as exact as ggml's own rounding of x allows: (T, out)."""
    matrix = dequantize(raw, kind, shape).astype(np.float64)
    rounding = activation_type(kind.name)
    if rounding != "Q8_1":
        return rounded(x, rounding) @ matrix.T
    # Minima (the second FP16 of a block) meet the sum of a block of x, which is itself rounded to FP16.
    minima = raw.reshape(shape[0], -1, kind.block_bytes)[..., 2:4].copy().view(np.float16)[..., 0].astype(np.float64)
    matrix -= np.repeat(minima, 32, axis=-1)
    q, scale = _eight_bits(x)
    sums = (q.sum(axis=-1, keepdims=True) * scale).astype(np.float16)[..., 0].astype(np.float64)
    exact: npt.NDArray[np.float64] = rounded(x, rounding) @ matrix.T + sums @ minima.T
    return exact


def rung(bench: Bench) -> Iterator[Row]:
    """One row per file recipe: the worst product of a llama miniature, prompt (width 48) and single tokens."""
    for quant in QUANTS:
        recipe = Recipe(f"llama-{quant}".lower(), "llama", quant)
        path = bench.model(recipe)
        worst, where, count = 0.0, "", 0
        gguf = GgufFile.open(path)
        try:
            for pieces in _capture(path):
                for weight, source, target in _PRODUCTS:
                    for layer in range(2):
                        info = gguf.tensors[f"blk.{layer}.{weight}.weight"]
                        x = pieces[f"{source}-{layer}"]
                        exact = product(x, gguf.raw(info.name), info.type, info.shape)
                        gap = nmse(pieces[f"{target}-{layer}"], exact)
                        count += 1
                        if gap > worst:
                            worst, where = gap, f"{weight} of layer {layer} ({info.type.name}), {len(x)} tokens"
        finally:
            gguf.close()
        yield Row("T3", quant, worst, BOUND, f"{count} products; worst {where}")


def _capture(path: Path) -> Iterator[dict[str, Floats]]:
    """Inputs and outputs of the products, for one pass of 48 tokens and one of a single token."""
    wanted = {source for _, source, _ in _PRODUCTS} | {target for *_, target in _PRODUCTS}
    pieces: dict[str, Floats] = defaultdict(lambda: np.empty(0, np.float32))

    def ask(node: str, op: str) -> bool:
        base = node.rpartition("-")[0]
        return base in wanted and op in {"MUL_MAT", "MUL", "SWIGLU", "GLU"}

    def take(tapped: Tapped) -> None:
        pieces.setdefault(tapped.name, np.atleast_2d(tapped.values.astype(np.float32)))

    ids = np.random.default_rng(3).integers(0, 320, size=49).tolist()
    with (
        Model(path) as model,
        Context(model, CONTEXT, Settings(), tap=take, wanted=ask) as context,
    ):
        for step in (ids[:48], ids[48:]):
            pieces.clear()
            context.decode(step)
            yield dict(pieces)
