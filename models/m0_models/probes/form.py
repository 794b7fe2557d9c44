"""What all probes share: one transformer layer in llama or qwen2 form, and the orthogonal rows it is built from."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

from m0_models import container
from m0_models.container import FILE_TYPES, Tensor
from m0_models.quantize import block_size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from m0_models.bytelevel import Vocabulary

Floats = npt.NDArray[np.float32]
Form = Literal["llama", "qwen2"]

FORMS: Final[tuple[Form, ...]] = ("llama", "qwen2")
QUANTS: Final = tuple(FILE_TYPES)
_Q6_K_IN_Q4_K_M: Final = ("attn_v.weight", "ffn_down.weight", "output.weight")
"""What the recipe Q4_K_M stores in six bits; everything else it stores as Q4_K."""
CONTEXT: Final = 8192
HEAD: Final = 64
"""Dimensions of one attention head; the probes have a single key-value head."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A written probe: where it lies and what it promises (JSON-serialisable)."""

    path: Path
    facts: dict[str, Any]

    def write_facts(self) -> Path:
        """Write the facts beside the model as JSON and return that path."""
        target = self.path.with_suffix(".json")
        target.write_text(json.dumps(self.facts, indent=1), encoding="utf-8")
        return target


def promised(path: Path, kind: str, vocabulary: Vocabulary, eos: int, *, form: Form, quant: str, **facts: Any) -> Probe:
    """The written probe with the facts that all kinds have, and its own."""
    common = {"vocab": len(vocabulary), "eos": eos, "context": CONTEXT}
    return Probe(path, {"kind": kind, "form": form, "quant": quant, **facts, **common})


def hadamard(order: int) -> Floats:
    """Sylvester's Hadamard matrix: ``order`` rows of ±1, any two of them orthogonal. ``order`` is a power of two."""
    rows = np.ones((1, 1), dtype=np.float32)
    while len(rows) < order:
        rows = np.block([[rows, rows], [rows, -rows]])
    if len(rows) != order:
        raise ValueError(f"{order} is no power of two")
    return rows


def write(
    path: Path,
    *,
    form: Form,
    quant: str,
    name: str,
    vocabulary: Vocabulary,
    eos: int,
    embeddings: Floats,
    output: Floats,
    layer: Mapping[str, Floats] | None = None,
    output_norm: Floats | None = None,
    rope_base: float = 10000.0,
    context: int = CONTEXT,
    layers: int = 1,
) -> Path:
    """Write a model around ``embeddings`` and ``output``, both (vocabulary, d), with one layer unless told otherwise.

    ``layer`` overrides tensors of every layer by their short name ("attn_q.weight", "attn_k.bias" ...); all others are
    zero, so that the residual stream carries the embedding unchanged to the output norm, whose weights are
    ``output_norm`` (d,), or ones.

    Raises:
        ValueError: unknown form or quantization.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}: one of {', '.join(FORMS)}")
    d = embeddings.shape[1]
    feed_forward = max(32, block_size(_type("ffn_down.weight", quant))[0])
    shapes: dict[str, tuple[int, ...]] = {
        "attn_q.weight": (d, d),
        "attn_k.weight": (HEAD, d),
        "attn_v.weight": (HEAD, d),
        "attn_output.weight": (d, d),
        "ffn_gate.weight": (feed_forward, d),
        "ffn_up.weight": (feed_forward, d),
        "ffn_down.weight": (d, feed_forward),
    }
    if form == "qwen2":
        shapes |= {"attn_q.bias": (d,), "attn_k.bias": (HEAD,), "attn_v.bias": (HEAD,)}
    given = dict(layer or {})
    block = {name: Tensor.encode(name, np.ones(d), "F32") for name in ("attn_norm.weight", "ffn_norm.weight")}
    for short in {**shapes, **given}:
        values = given.get(short)
        values = np.zeros(shapes[short], dtype=np.float32) if values is None else values
        block[short] = Tensor.encode(short, values, _type(short, quant) if values.ndim == 2 else "F32")
    tensors = [Tensor.encode("token_embd.weight", embeddings, _type("token_embd.weight", quant))]
    tensors += [replace(tensor, name=f"blk.{i}.{short}") for i in range(layers) for short, tensor in block.items()]
    tensors += [
        Tensor.encode("output_norm.weight", np.ones(d) if output_norm is None else output_norm, "F32"),
        Tensor.encode("output.weight", output, _type("output.weight", quant)),
    ]
    metadata: dict[str, object] = {
        "general.name": name,
        "general.file_type": FILE_TYPES[quant],
        f"{form}.context_length": context,
        f"{form}.embedding_length": d,
        f"{form}.block_count": layers,
        f"{form}.feed_forward_length": feed_forward,
        f"{form}.attention.head_count": d // HEAD,
        f"{form}.attention.head_count_kv": 1,
        f"{form}.attention.layer_norm_rms_epsilon": 1e-12,  # below half an ulp of 1: the norm of ±1 rows is exact
        f"{form}.rope.dimension_count": HEAD,
        f"{form}.rope.freq_base": rope_base,
        f"{form}.vocab_size": len(vocabulary),
    }
    metadata |= vocabulary.metadata(eos)
    return container.write(path, form, metadata, tensors)


def _type(name: str, quant: str) -> str:
    """Tensor type of a matrix in the file recipe ``quant``."""
    if quant != "Q4_K_M":
        return quant
    return "Q6_K" if name in _Q6_K_IN_Q4_K_M else "Q4_K"
