"""Vocabularies of any size for the miniatures and the benchmark models: synthetic, but loadable by any engine.

Byte BPE for llama, qwen2, gpt2 and gpt-oss files, SentencePiece with byte fallback for phi3, each with the special
tokens its family is known by. Every token can be reached by the merges.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from m0_models.bytelevel import CONTROL, NORMAL, USER_DEFINED, byte_characters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_models.shapes import Architecture, Shape

_PRE: Final[dict[Architecture, str]] = {
    "llama": "llama-bpe",
    "qwen2": "qwen2",
    "gpt2": "gpt-2",
    "gpt-oss": "gpt-4o",
}
_SPECIALS: Final[dict[Architecture, tuple[str, ...]]] = {
    "llama": ("<|begin_of_text|>", "<|end_of_text|>"),
    "qwen2": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "gpt2": ("<|endoftext|>",),
    "gpt-oss": (
        "<|startoftext|>",
        "<|endoftext|>",
        "<|return|>",
        "<|constrain|>",
        "<|channel|>",
        "<|start|>",
        "<|end|>",
        "<|message|>",
        "<|call|>",
    ),
    "phi3": ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
}
_ENDS: Final[dict[Architecture, tuple[str, str]]] = {  # (bos, eos)
    "llama": ("<|begin_of_text|>", "<|end_of_text|>"),
    "qwen2": ("<|endoftext|>", "<|im_end|>"),
    "gpt2": ("<|endoftext|>", "<|endoftext|>"),
    "gpt-oss": ("<|startoftext|>", "<|return|>"),
    "phi3": ("<s>", "<|endoftext|>"),
}
_LETTERS: Final = "etaoinshrdlucmfwypvbgkjqxz"


def metadata(shape: Shape) -> dict[str, object]:
    """The tokenizer.* keys of a vocabulary with ``shape.vocabulary`` entries.

    Raises:
        ValueError: fewer entries asked for than the bytes and special tokens need.
    """
    if shape.architecture == "phi3":
        return _spm(shape)
    return _bpe(shape)


def _compounds() -> Iterator[tuple[str, str]]:
    """Pairs (left, right) whose joins are new strings: two letters, a space and two letters, then pairs of pairs."""
    doubles = [(a, b) for a in _LETTERS for b in _LETTERS]
    yield from doubles
    space = byte_characters()[ord(" ")]
    joined = [a + b for a, b in doubles]
    yield from ((space, pair) for pair in joined)
    yield from itertools.product(joined, joined)


def _bpe(shape: Shape) -> dict[str, object]:
    family = shape.architecture
    special = _SPECIALS[family]
    room = shape.vocabulary - 256 - len(special)
    if room < 0:
        raise ValueError(f"{shape.vocabulary} entries are too few for 256 bytes and {len(special)} special tokens")
    pairs = list(itertools.islice(_compounds(), room))
    strings = [*byte_characters(), *(a + b for a, b in pairs), *special]
    padding = [f"[PAD{i}]" for i in range(len(strings), shape.vocabulary)]
    bos, eos = _ENDS[family]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _PRE[family],
        "tokenizer.ggml.tokens": strings + padding,
        "tokenizer.ggml.token_type": [NORMAL] * (256 + len(pairs)) + [CONTROL] * (len(special) + len(padding)),
        "tokenizer.ggml.merges": [f"{a} {b}" for a, b in pairs],
        "tokenizer.ggml.bos_token_id": strings.index(bos),
        "tokenizer.ggml.eos_token_id": strings.index(eos),
        "tokenizer.ggml.add_bos_token": False,
    }


def _spm(shape: Shape) -> dict[str, object]:
    """SentencePiece as phi3 files carry it: <unk>, <s>, </s>, byte fallback, pieces with falling scores."""
    special = _SPECIALS["phi3"]
    head = ["<unk>", "<s>", "</s>"]
    raw = [f"<0x{b:02X}>" for b in range(256)]
    room = shape.vocabulary - len(head) - len(raw) - len(special)
    if room < 1 + len(_LETTERS):
        raise ValueError(f"{shape.vocabulary} entries are too few for a SentencePiece vocabulary with byte fallback")
    space = byte_characters()[ord(" ")]
    joins = ((a + b).replace(space, "▁") for a, b in _compounds())
    letters = ["▁", *_LETTERS]
    pieces = letters + list(itertools.islice(joins, room - len(letters)))
    strings = [*head, *raw, *pieces, *special]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": strings,
        "tokenizer.ggml.scores": [0.0] * (len(head) + len(raw))
        + [float(-1e4 if p in letters else -i) for i, p in enumerate(pieces)]
        + [-1000.0] * len(special),
        "tokenizer.ggml.token_type": [2, CONTROL, USER_DEFINED] + [6] * 256 + [NORMAL] * len(pieces) + [CONTROL] * 5,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": strings.index("<|endoftext|>"),
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": strings.index("<|endoftext|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": True,
    }
