"""Metadata that no model can be loaded with, one key at a time: name, what is wrong, clause, words, changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Fault = tuple[str, str, str, tuple[str, ...], "Mapping[str, object]"]

_SCORED: Final = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.unknown_token_id": 0}


def _tokenizer(name: str, wrong: str, key: str, value: object, **more: object) -> Fault:
    """A fault of one key below tokenizer.ggml, which the message must name."""
    return name, f"{key} {wrong}", "M0-W-1360", (key,), {f"tokenizer.ggml.{key}": value, **more}


def _architecture(name: str, wrong: str, key: str, value: object, *words: str) -> Fault:
    """A fault of one key below qwen2, which the message must name, or of what it says."""
    return name, f"{key} {wrong}", "M0-W-1211", words or (key,), {f"qwen2.{key}": value}


KEYS: Final[tuple[Fault, ...]] = (
    ("name-number", "general.name is a number", "M0-W-1211", ("general.name",), {"general.name": 7}),
    ("alignment-24", "general.alignment is 24", "M0-W-1211", ("alignment",), {"general.alignment": 24}),
    ("a-part", "the second of three parts", "M0-W-1211", ("part",), {"split.no": 1, "split.count": 3}),
    _tokenizer("tokens-numbers", "is an array of numbers", "tokens", [1, 2, 3]),
    _tokenizer("tokens-text", "is one string", "tokens", "all of them"),
    _tokenizer("types-texts", "is an array of strings", "token_type", ["normal", "control"]),
    _tokenizer("types-fractions", "is an array of floats", "token_type", [1.0] * 1000),
    _tokenizer("types-number", "is one number", "token_type", 1),
    _tokenizer("types-few", "is too short", "token_type", [1, 1]),
    _tokenizer("no-merges", "is missing", "merges", None),
    _tokenizer("merges-numbers", "is an array of numbers", "merges", [1, 2]),
    _tokenizer("merges-text", "is one string", "merges", "a b"),
    _tokenizer("model-number", "is a number", "model", 7),
    _tokenizer("model-unknown", "is bert", "model", "bert"),
    _tokenizer("pre-number", "is a number", "pre", 7),
    _tokenizer("bos-text", "is a string", "bos_token_id", "<s>"),
    _tokenizer("bos-outside", "is no token", "bos_token_id", 1 << 30),
    _tokenizer("eos-fraction", "is a float", "eos_token_id", 0.5),
    _tokenizer("eos-outside", "is no token", "eos_token_id", 1 << 31),
    _tokenizer("eos-flag", "is a boolean", "eos_token_id", True),
    _tokenizer("eot-texts", "is an array", "eot_token_id", ["<|im_end|>"]),
    _tokenizer("pad-outside", "is no token", "fim_pad_token_id", 1 << 30),
    _tokenizer("add-bos-number", "is a number", "add_bos_token", 1),
    _tokenizer("add-bos-text", "is a string", "add_bos_token", "yes"),
    _tokenizer("add-eos-array", "is an array", "add_eos_token", [1]),
    (
        "bos-unknown",
        "a token at each begin that has no id",
        "M0-W-1360",
        ("bos_token_id",),
        {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None},
    ),
    _tokenizer("no-scores", "is missing", "scores", None, **_SCORED),
    _tokenizer("scores-texts", "is an array of strings", "scores", ["high", "low"], **_SCORED),
    _tokenizer("scores-few", "is too short", "scores", [0.0, 1.0], **_SCORED),
    _tokenizer("scores-nan", "holds NaN", "scores", [math.nan] * 1000, **_SCORED),
    _tokenizer(
        "prefix-text", "is a string", "add_space_prefix", "no", **{**_SCORED, "tokenizer.ggml.scores": [0.0] * 1000}
    ),
    _architecture("context-text", "is a string", "context_length", "long"),
    _architecture("context-zero", "is 0", "context_length", 0),
    _architecture("width-fraction", "is a float", "embedding_length", 512.5),
    _architecture("layers-text", "is a string", "block_count", "one"),
    _architecture("layers-zero", "is 0", "block_count", 0),
    _architecture("heads-array", "is an array", "attention.head_count", [8, 8]),
    _architecture("heads-uneven", "does not divide the width", "attention.head_count", 7, "heads"),
    _architecture("kv-heads-uneven", "does not divide the heads", "attention.head_count_kv", 5, "heads"),
    _architecture("epsilon-missing", "is missing", "attention.layer_norm_rms_epsilon", None),
    _architecture("epsilon-text", "is a string", "attention.layer_norm_rms_epsilon", "small"),
    _architecture("epsilon-nan", "is NaN", "attention.layer_norm_rms_epsilon", math.nan),
    _architecture("feed-forward-other", "is not what the tensors have", "feed_forward_length", 48, "ffn_"),
    _architecture("rotated-odd", "is odd", "rope.dimension_count", 63, "rotate"),
    _architecture("rotated-wide", "is wider than a head", "rope.dimension_count", 128, "rotate"),
    _architecture("rope-unknown", "is spiral", "rope.scaling.type", "spiral", "spiral"),
    _architecture("rope-base-zero", "is 0", "rope.freq_base", 0.0),
    _architecture("rope-base-text", "is a string", "rope.freq_base", "large"),
)
"""Changes of the base file's metadata; None leaves a key out."""
