"""Probes in the shape of a real model: its architecture and sizes, its vocabulary where it has one, nothing else of it.

A worker that was written for one model often has that model's sizes built in. The probe's block of d columns lies in
the first d of the model's, its attention in the first head of the first layer that sees the whole context; everything
else is zero and a hole in the file. A norm over W columns of which d are in use divides by sqrt(d/W) of what it would
divide by over d: the norms' weights are that factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from m0_models import layout, sparse
from m0_models.container import FILE_TYPES
from m0_models.found import Found
from m0_models.probes.parts import HEAD, Attention, Floats, Form, Index, Rotation, Rows
from m0_models.quantize import quantize
from m0_models.recipes import tensor_type
from m0_models.scan import Scan
from m0_models.shapes import GPT_OSS_20B, PHI_3_MINI_4K, QWEN2_5_0_5B, Shape
from m0_models.sparse import Stored

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.bytelevel import Vocabulary

NAMED: Final = {"qwen2.5-0.5b": QWEN2_5_0_5B, "phi-3-mini": PHI_3_MINI_4K, "gpt-oss-20b": GPT_OSS_20B}
"""M0's reference models by name."""
_FORMS: Final[tuple[Form, ...]] = ("llama", "qwen2", "phi3", "gpt-oss")
_SINK: Final = -100.0


@dataclass(frozen=True, slots=True)
class Likeness:
    """The model whose shape probes take.

    Attributes:
        label: the shape's name, or the file's.
        shape: its sizes.
        source: the file, whose vocabulary the probes take too; None for a named shape.
    """

    label: str
    shape: Shape
    source: Path | None = None

    @property
    def form(self) -> Form:
        """The architecture."""
        return cast("Form", self.shape.architecture)

    def vocabulary(self) -> Found | None:
        """The file's vocabulary."""
        return Found(Scan(self.source)) if self.source is not None else None

    def of(self, form: Form) -> Shape:
        """The same sizes in another architecture, as far as that has them; never a tied output."""
        if form == self.form:
            return replace(self.shape, tied=False, rope_freqs=False, long_rope=0)
        biased = form in {"qwen2", "gpt-oss"}
        return Shape(
            form, width=self.shape.width, heads=self.shape.heads, kv_heads=self.shape.kv_heads,
            head_dim=self.shape.head_dim, layers=self.shape.layers, feed_forward=self.shape.feed_forward,
            vocabulary=self.shape.vocabulary, context=self.shape.context, rope_base=self.shape.rope_base,
            qkv_bias=biased, epsilon=self.shape.epsilon,
        )  # fmt: skip

    def rotation(self, form: Form) -> Rotation:
        """How engines turn the queries of such a file."""
        shape = self.of(form)
        return Rotation(shape.head_dim, shape.rotated, shape.rope_base, adjacent=form == "llama")


def named(name: str) -> Likeness:
    """One of M0's reference models.

    Raises:
        ValueError: no such shape.
    """
    if name not in NAMED:
        raise ValueError(f"no shape {name!r}: one of {', '.join(NAMED)}, or give a file")
    return Likeness(name, NAMED[name])


def of_file(path: Path) -> Likeness:
    """The shape of a GGUF file, from its header.

    Raises:
        OSError: it cannot be read.
        ValueError: no GGUF file, no architecture that a probe can have, or sizes that no probe fits into.
    """
    scan = Scan(path)
    form = scan.architecture
    if form not in _FORMS:
        raise ValueError(f"{path}: no probe has the architecture {form!r}, only {', '.join(_FORMS)}")

    def size(key: str, default: int | None = None) -> int:
        value = scan.metadata.get(f"{form}.{key}", default)
        if not isinstance(value, int):
            raise ValueError(f"{path}: {form}.{key} is {value!r}, not one number")  # noqa: TRY004 - the file is at fault
        return value

    width, heads = size("embedding_length"), size("attention.head_count")
    base = scan.metadata.get(f"{form}.rope.freq_base", 10000.0)
    epsilon = scan.metadata.get(f"{form}.attention.layer_norm_rms_epsilon", 1e-5)
    factor = scan.metadata.get(f"{form}.rope.scaling.factor", 0.0)
    shape = Shape(
        form, width=width, heads=heads, kv_heads=size("attention.head_count_kv", heads),
        head_dim=size("attention.key_length", width // heads), layers=size("block_count"),
        feed_forward=size("feed_forward_length"), vocabulary=scan.lengths.get("tokenizer.ggml.tokens", 0),
        context=size("context_length"), rope_base=float(str(base)), rope_dim=size("rope.dimension_count", 0),
        qkv_bias="blk.0.attn_q.bias" in scan.tensors, window=size("attention.sliding_window", 0),
        experts=size("expert_count", 0), experts_used=size("expert_used_count", 0),
        expert_feed_forward=size("expert_feed_forward_length", 0), epsilon=float(str(epsilon)),
        yarn_factor=float(str(factor)), yarn_context=size("rope.scaling.original_context_length", 0),
    )  # fmt: skip
    if shape.head_dim < HEAD:
        raise ValueError(f"{path}: heads of {shape.head_dim} dimensions are too small for probes, which need {HEAD}")
    Found(scan)  # complain now, not when the first probe is written
    return Likeness(path.name, shape, path)


@dataclass(frozen=True, slots=True)
class Content:
    """What a probe puts into the shape: see `m0_models.probes.form.write`."""

    embeddings: Rows
    output: Rows
    output_norm: Floats
    attention: Attention | None
    padding: Floats | None


def write(
    path: Path,
    likeness: Likeness,
    form: Form,
    quant: str,
    name: str,
    vocabulary: Vocabulary,
    eos: int,
    content: Content,
) -> str:
    """Write a probe in a likeness; returns the type of its output matrix.

    Raises:
        ValueError: the probe does not fit into the shape.
    """
    shape = likeness.of(form)
    if content.embeddings.width > shape.width or len(vocabulary) > shape.vocabulary:
        raise ValueError(
            f"a probe of {content.embeddings.width} columns and {len(vocabulary)} tokens does not fit into "
            f"{likeness.label}: {shape.width} columns, {shape.vocabulary} tokens"
        )
    tensors = [_stored(spec, shape, quant, content) for spec in layout.specs(shape)]
    metadata = {
        "general.name": name,
        "general.file_type": FILE_TYPES["MXFP4" if shape.experts else quant],
        **layout.metadata(shape),
        **_padded(vocabulary.metadata(eos), shape.vocabulary),
    }
    sparse.write(path, form, metadata, tensors)
    return next(tensor.kind for tensor in tensors if tensor.name == "output.weight")


def _padded(metadata: dict[str, object], size: int) -> dict[str, object]:
    """The tokenizer's keys, filled up with control tokens to the size of the matrices."""
    tokens = cast("list[str]", metadata["tokenizer.ggml.tokens"])
    more = size - len(tokens)
    padded: dict[str, object] = {
        "tokenizer.ggml.tokens": [*tokens, *(f"[PAD{number}]" for number in range(len(tokens), size))]
    }
    for key, value in (("token_type", 3), ("scores", 0.0)):
        if isinstance(known := metadata.get(f"tokenizer.ggml.{key}"), list):
            padded[f"tokenizer.ggml.{key}"] = [*known, *[value] * more]
    return metadata | padded


def _stored(spec: layout.Spec, shape: Shape, quant: str, content: Content) -> Stored:
    kind = "MXFP4" if spec.role == "experts" else tensor_type(quant, spec, shape)
    values = _values(spec, shape, content)
    if values is None:
        return Stored(spec.name, spec.shape, kind)
    table = np.zeros((len(values.table), spec.shape[-1]), dtype=np.float32)
    table[:, : values.width] = values.table
    index = values.index
    if len(spec.shape) == 1:
        return Stored(spec.name, spec.shape, kind, quantize(table, kind), index)
    rows = np.full(spec.shape[0], -1, dtype=np.intp)
    said = np.count_nonzero(table, axis=1) > 0
    rows[: len(index)] = np.where(said[index], index, -1)
    if spec.role == "output" and content.padding is not None:
        padding = np.zeros((1, spec.shape[-1]), dtype=np.float32)
        padding[0, : len(content.padding)] = content.padding
        rows[len(index) :] = len(table)
        table = np.concatenate([table, padding])
    return Stored(spec.name, spec.shape, kind, quantize(table, kind), rows)


def _values(spec: layout.Spec, shape: Shape, content: Content) -> Rows | None:
    """The first rows and columns of a tensor that are not zero; None where all are."""
    d = content.embeddings.width
    scale = np.float32(math.sqrt(d / shape.width))
    short = spec.name.rpartition(".")[0].rpartition(".")[2]
    match spec.role:
        case "embedding":
            return content.embeddings
        case "output":
            return content.output
        case "norm":
            weights = content.output_norm if short == "output_norm" else np.ones(d, dtype=np.float32)
            return _all(weights[None] * scale)
        case "sink":
            return _all(np.full((1, shape.heads), _SINK, dtype=np.float32))
    if content.attention is None or spec.layer != _attending(shape):
        return None
    matrix = _attention(short, spec.name.endswith("bias"), shape, content.attention)
    return None if matrix is None else _all(matrix)


def _attending(shape: Shape) -> int:
    """The first layer that sees the whole context: every other one of gpt-oss sees a window."""
    return 1 if shape.architecture == "gpt-oss" and shape.layers > 1 else 0


def _attention(short: str, bias: bool, shape: Shape, attention: Attention) -> Floats | None:
    """The first rows of an attention tensor."""
    value = attention.value_bias[None] if bias and attention.value_bias is not None else attention.value
    if short == "attn_output" and not bias:
        return attention.output
    if short == "attn_v" and (not bias or attention.value_bias is not None):
        return value
    if short in {"attn_q", "attn_k"} and not bias:
        return attention.query if short == "attn_q" else attention.key
    if short == "attn_qkv" and not bias:
        parts = [
            (0, attention.query), (shape.queries, attention.key), (shape.queries + shape.keys, attention.value)
        ]  # fmt: skip
        fused = np.zeros((shape.queries + 2 * shape.keys, attention.output.shape[0]), dtype=np.float32)
        for start, part in parts:
            if part is not None:
                fused[start : start + len(part)] = part
        return fused
    return None


def _all(matrix: Floats) -> Rows:
    index: Index = np.arange(len(matrix))
    return Rows(matrix, index)
