"""How probes are written: one transformer layer in llama or qwen2 form, or in the shape of a real model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_models import container, tokenizer_json
from m0_models.bytelevel import Vocabulary
from m0_models.container import FILE_TYPES, Tensor
from m0_models.probes import likeness as likenesses
from m0_models.probes.likeness import Likeness
from m0_models.probes.parts import HEAD, Attention, Floats, Form, Probe, Rotation, Rows, hadamard
from m0_models.quantize import block_size
from m0_models.spm import SentencePiece
from m0_models.vocabularies import Made

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["CONTEXT", "FORMS", "HEAD", "QUANTS", "Attention", "Floats", "Form", "Likeness", "Probe", "Rows", "hadamard"]

FORMS: Final[tuple[Form, ...]] = ("llama", "qwen2")
"""Architectures that a probe has without another model's shape."""
QUANTS: Final = tuple(FILE_TYPES)
_Q6_K_IN_Q4_K_M: Final = ("attn_v.weight", "ffn_down.weight", "output.weight")
"""What the recipe Q4_K_M stores in six bits; everything else it stores as Q4_K."""
CONTEXT: Final = 8192
ROPE_BASE: Final = 10000.0
_PRE: Final[dict[Form, str]] = {"llama": "llama-bpe", "qwen2": "qwen2", "gpt-oss": "gpt-4o", "phi3": "default"}


def form_of(form: Form | None, like: Likeness | None) -> Form:
    """The architecture to write: the one asked for, else the likeness's, else qwen2."""
    return form or (like.form if like is not None else "qwen2")


def vocabulary_for(form: Form, like: Likeness | None, *, spm: bool = False) -> Vocabulary:
    """The vocabulary to say things with: the file's, SentencePiece where asked for or usual, else byte-level BPE."""
    found = like.vocabulary() if like is not None else None
    if found is not None:
        return found
    return SentencePiece() if spm or form == "phi3" else Vocabulary(pre=_PRE[form])


def rotation_of(form: Form, like: Likeness | None, base: float) -> Rotation:
    """How queries are turned; ``base`` where no model's shape says it."""
    return like.rotation(form) if like is not None else Rotation(HEAD, HEAD, base, adjacent=form == "llama")


def promised(
    path: Path,
    kind: str,
    vocabulary: Vocabulary,
    eos: int,
    *,
    form: Form,
    quant: str,
    like: Likeness | None,
    **facts: Any,
) -> Probe:
    """The written probe with the facts that all kinds have, and its own."""
    size, context = len(vocabulary), CONTEXT
    if like is not None:
        size, context = like.shape.vocabulary, like.shape.context
        facts["shape"] = like.label
    common = {
        "vocab": size,
        "eos": eos,
        "context": context,
        "tokenizer": vocabulary.metadata(eos)["tokenizer.ggml.model"],
    }
    return Probe(path, {"kind": kind, "form": form, "quant": quant, **facts, **common})


def place(path: Path, form: Form) -> Path:
    """Where a file of this architecture goes: a gpt-oss file into a folder of its own, for its tokenizer.json."""
    return path.with_suffix("") / path.name if form == "gpt-oss" else path


def write(
    path: Path,
    *,
    form: Form,
    quant: str,
    name: str,
    vocabulary: Vocabulary,
    eos: int,
    embeddings: Rows,
    output: Rows,
    attention: Attention | None = None,
    output_norm: Floats | None = None,
    rope_base: float = ROPE_BASE,
    layers: int = 1,
    like: Likeness | None = None,
    padding: Floats | None = None,
) -> str:
    """Write a model around ``embeddings`` and ``output``, both (vocabulary, d); returns the output matrix's type.

    One layer unless told otherwise, whose first head does what ``attention`` says; all other weights are zero, so that
    the residual stream carries the embedding to the output norm, whose weights are ``output_norm`` (d,), or ones.
    ``padding`` (d,) is the output row of the tokens that fill up a likeness's vocabulary.

    Raises:
        ValueError: unknown form or quantization, or the likeness is too small.
    """
    d = embeddings.width
    norm = np.ones(d, dtype=np.float32) if output_norm is None else output_norm
    if like is not None:
        content = likenesses.Content(embeddings, output, norm, attention, padding)
        kind = likenesses.write(path, like, form, quant, name, vocabulary, eos, content)
        if form == "gpt-oss":
            made = Made(vocabulary.pre, form, vocabulary.metadata(eos))
            tokenizer_json.write(path.parent / "tokenizer.json", tokenizer_json.byte_level(made))
        return kind
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}: one of {', '.join(FORMS)}")
    feed_forward = max(32, block_size(_type("ffn_down.weight", quant))[0])
    block = {short: Tensor.encode(short, np.ones(d), "F32") for short in ("attn_norm.weight", "ffn_norm.weight")}
    for short, values in _layer(form, d, feed_forward, attention).items():
        block[short] = Tensor.encode(short, values, _type(short, quant) if values.ndim == 2 else "F32")
    tensors = [Tensor.encode("token_embd.weight", embeddings.dense(), _type("token_embd.weight", quant))]
    tensors += [replace(tensor, name=f"blk.{i}.{short}") for i in range(layers) for short, tensor in block.items()]
    kind = _type("output.weight", quant)
    tensors += [
        Tensor.encode("output_norm.weight", norm, "F32"),
        Tensor.encode("output.weight", output.dense(), kind),
    ]
    metadata: dict[str, object] = {
        "general.name": name,
        "general.file_type": FILE_TYPES[quant],
        f"{form}.context_length": CONTEXT,
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
    container.write(path, form, metadata | vocabulary.metadata(eos), tensors)
    return kind


def _layer(form: Form, d: int, feed_forward: int, attention: Attention | None) -> Mapping[str, Floats]:
    """Every tensor of a layer but its norms; the query is the same for all heads, whose results are not used."""
    zero = {
        "attn_q.weight": (d, d),
        "attn_k.weight": (HEAD, d),
        "attn_v.weight": (HEAD, d),
        "attn_output.weight": (d, d),
        "ffn_gate.weight": (feed_forward, d),
        "ffn_up.weight": (feed_forward, d),
        "ffn_down.weight": (d, feed_forward),
    }
    biases = {"attn_q.bias": (d,), "attn_k.bias": (HEAD,), "attn_v.bias": (HEAD,)} if form == "qwen2" else {}
    values = {short: np.zeros(dims, dtype=np.float32) for short, dims in (zero | biases).items()}
    if attention is None:
        return values
    values["attn_output.weight"][:, :HEAD] = attention.output
    if attention.query is not None:
        values["attn_q.weight"] = np.tile(attention.query, (d // HEAD, 1))
    given = {"attn_k.weight": attention.key, "attn_v.weight": attention.value, "attn_v.bias": attention.value_bias}
    return values | {short: matrix for short, matrix in given.items() if matrix is not None}


def _type(name: str, quant: str) -> str:
    """Tensor type of a matrix in the file recipe ``quant``."""
    if quant != "Q4_K_M":
        return quant
    return "Q6_K" if name in _Q6_K_IN_Q4_K_M else "Q4_K"
