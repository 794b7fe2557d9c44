"""The echo probe: attention sees exactly the token LAG back, so a prompt of LAG + 1 tokens is said again, one by one.

Each event's text is one token of the prompt: where the tokenizer cut can be read off. Vectors are filled up with
FILLER, which no merge touches, to LAG + 1 tokens by the right count; a tokenizer that cuts otherwise says something
else. Vocabularies: `m0_models.vocabularies`; pieces on which llama.cpp and Hugging Face tokenizers agree lie in
echo_vectors/.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_models import container, layout, tokenizer_json, vocabularies
from m0_models.container import FILE_TYPES, Tensor
from m0_models.probes.parts import Probe
from m0_models.recipes import tensor_type
from m0_models.shapes import Shape

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.probes.parts import Floats
    from m0_models.shapes import Architecture

LAG: Final = 63
FILLER: Final = "\x01"
NAMES: Final[dict[str, Architecture]] = {
    "qwen2": "qwen2",
    "llama-bpe": "llama",
    "gpt-2": "gpt2",
    "phi-3": "phi3",
    "gpt-4o": "gpt-oss",
}
"""Vocabulary to the architecture whose files carry it. gpt-4o comes with a tokenizer.json: the backend hf-json."""
_CODE: Final = 256
_WIDTH: Final = 704  # both signs of a code (512), of a constant (2), of a position (128), rounded up to whole heads
_HEAD: Final = 64
_CONSTANT: Final = 2 * _CODE
_PLACE: Final = _CONSTANT + 2
_LOUDNESS: Final = 8.0
_AMPLITUDE: Final = 10.0
_STRENGTH: Final = 16.0
_SCALE: Final = 0.25
_ROPE_BASE: Final = 100.0
_SLOWEST: Final = 0.05


def vectors(name: str) -> list[dict[str, Any]]:
    """The stored vectors of a vocabulary: ``text`` as to be sent, ``pieces`` (hexadecimal) as to be said."""
    text = files("m0_models.probes").joinpath(f"echo_vectors/{name}.json").read_text("utf-8")
    return list(json.loads(text)["vectors"])


def echo(path: Path, name: str = "qwen2", *, quant: str = "Q8_0") -> Probe:
    """Write the echo probe with the vocabulary ``name`` to ``path``.

    gpt-4o goes into a folder of its own, named like the file without its suffix, with a tokenizer.json beside it: other
    gpt-oss files of the same folder would take that for theirs.

    facts: ``vectors`` (see :func:`vectors`), ``lag``, ``filler``, ``backend``.

    Raises:
        ValueError: unknown vocabulary.
    """
    if name not in NAMES:
        raise ValueError(f"no echo probe for {name!r}: one of {', '.join(NAMES)}")
    if NAMES[name] == "gpt-oss":
        path = path.with_suffix("") / path.name
    made = vocabularies.make(name)
    size = len(made.metadata["tokenizer.ggml.tokens"])  # type: ignore[arg-type]  # a list
    shape = _shape(NAMES[name], size)
    tensors = _tensors(shape)
    encoded = [
        Tensor.encode(spec.name, tensors[spec.name], tensor_type(quant, spec, shape)) for spec in layout.specs(shape)
    ]
    metadata = {
        **made.metadata,
        "general.name": f"echo probe {name}",
        "general.file_type": FILE_TYPES[quant],
        **layout.metadata(shape),
    }
    container.write(path, shape.architecture, metadata, encoded)
    if shape.architecture == "gpt-oss":
        tokenizer_json.write(path.parent / "tokenizer.json", tokenizer_json.byte_level(made))
    facts = {
        "kind": "echo",
        "vocabulary": name,
        "backend": "hf-json" if shape.architecture == "gpt-oss" else "gguf-bpe",
        "form": shape.architecture,
        "quant": quant,
        "vocab": size,
        "context": shape.context,
        "lag": LAG,
        "filler": FILLER,
        "vectors": vectors(name),
    }
    return Probe(path, facts)


def _shape(architecture: Architecture, vocabulary: int) -> Shape:
    heads = _WIDTH // _HEAD
    shape = Shape(
        architecture, width=_WIDTH, heads=heads, kv_heads=heads, head_dim=_HEAD, layers=1, feed_forward=32,
        vocabulary=vocabulary, context=512, rope_base=_ROPE_BASE, qkv_bias=architecture in {"qwen2", "gpt2", "gpt-oss"},
    )  # fmt: skip
    if architecture == "gpt-oss":
        return replace(shape, window=2 * (LAG + 1), experts=4, experts_used=2, expert_feed_forward=32)
    return shape


def _both(rows: Floats, at: int, width: int) -> Floats:
    """Rows (n, m) in the columns from ``at`` on, and their negatives in the next ones: their mean stays zero."""
    out = np.zeros((len(rows), width), dtype=np.float32)
    span = rows.shape[1]
    out[:, at : at + span], out[:, at + span : at + 2 * span] = rows, -rows
    return out


def _tensors(shape: Shape) -> dict[str, Floats]:
    s, heads = shape, shape.heads
    values = {spec.name: np.zeros(spec.shape, dtype=np.float32) for spec in layout.specs(s)}
    for name in values:
        if name.endswith("norm.weight"):
            values[name] += 1.0
        if name.endswith("attn_sinks.weight"):
            values[name] -= 100.0
    codes = np.random.default_rng(1).choice(np.array([-1, 1], dtype=np.float32), (s.vocabulary, _CODE))
    constant = _both(np.full((s.vocabulary, 1), _LOUDNESS, dtype=np.float32), _CONSTANT, s.width)
    values["token_embd.weight"] = _both(codes, 0, s.width) + constant
    values["output.weight"] = _both(codes, 0, s.width) * np.float32(_SCALE)
    angle = (_ROPE_BASE ** (-2 * np.arange(_HEAD // 2) / _HEAD)).astype(np.float32)  # radians per position
    if s.architecture == "gpt2":
        places = np.arange(s.context)[:, None] * angle
        values["position_embd.weight"] = _both(
            np.hstack([np.cos(places), np.sin(places)]).astype(np.float32), _PLACE, s.width
        )
        query, key = _by_place(s, angle, LAG), _by_place(s, angle, 0)
    else:
        query, key = _by_rotation(s, angle, LAG), _by_rotation(s, angle, 0)
    value, out = np.zeros((s.keys, s.width), dtype=np.float32), np.zeros((s.width, s.queries), dtype=np.float32)
    value[:_CODE] = _both(np.eye(_CODE, dtype=np.float32) / np.float32(2), 0, s.width)
    out[:, :_CODE] = _both(np.eye(_CODE, dtype=np.float32) * np.float32(_STRENGTH), 0, s.width).T
    values["blk.0.attn_output.weight"] = out
    parts = {"q": np.tile(query, (heads, 1)), "k": np.tile(key, (heads, 1)), "v": value}
    if "blk.0.attn_qkv.weight" in values:
        values["blk.0.attn_qkv.weight"] = np.concatenate(list(parts.values()))
    else:
        values |= {f"blk.0.attn_{part}.weight": matrix for part, matrix in parts.items()}
    return values


def _by_rotation(s: Shape, angle: Floats, lag: int) -> Floats:
    """(head, width): the constant to a vector in every fast pair, turned back by ``lag`` positions for RoPE to undo."""
    length = np.where(angle > _SLOWEST, _AMPLITUDE, 0.0)
    j = np.arange(_HEAD // 2)
    first, second = (2 * j, 2 * j + 1) if s.architecture == "llama" else (j, j + _HEAD // 2)
    vector = np.zeros((_HEAD, 1), dtype=np.float32)
    vector[first, 0], vector[second, 0] = length * np.cos(-lag * angle), length * np.sin(-lag * angle)
    return _both(vector / np.float32(2 * _LOUDNESS), _CONSTANT, s.width)


def _by_place(s: Shape, angle: Floats, lag: int) -> Floats:
    """(head, width): a position's cosines and sines to those of the position ``lag`` earlier."""
    half = _HEAD // 2
    turn = np.zeros((_HEAD, _HEAD), dtype=np.float32)
    j, length = np.arange(half), np.where(angle > _SLOWEST, _AMPLITUDE, 0.0)
    turn[j, j] = turn[half + j, half + j] = length * np.cos(lag * angle)
    turn[j, half + j], turn[half + j, j] = length * np.sin(lag * angle), -length * np.sin(lag * angle)
    return _both(turn / np.float32(2), _PLACE, s.width)
