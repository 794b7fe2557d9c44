"""tokenizer.json files for made vocabularies, written as plain JSON in the Hugging Face tokenizers format.

The patterns are the published ones of the models whose pre-tokenizer a vocabulary is named after. `gpt-4o-ascii` is the
reading that llama.cpp gives `gpt-4o`: case is told apart in ASCII letters only, a long s is no s, and combining marks
end a word.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, cast

from m0_models.bytelevel import CONTROL, USER_DEFINED
from m0_models.vocabularies import CONTROL_LOOKING, SPACE_MARK, UNKNOWN, Made

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TAIL: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTION: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ASCII_CONTRACTION: Final = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
_LEAD: Final = r"[^\r\n\p{L}\p{N}]?"
_O200K_TAIL: Final = r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _cased(upper: str, lower: str, contraction: str) -> str:
    tail = rf"(?:{contraction})?"
    return rf"{_LEAD}{upper}*{lower}+{tail}|{_LEAD}{upper}+{lower}*{tail}{_O200K_TAIL}"


PATTERNS: Final = {
    "gpt-2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama-bpe": rf"{_CONTRACTION}|{_LEAD}\p{{L}}+|\p{{N}}{{1,3}}{_TAIL}",
    "qwen2": rf"{_CONTRACTION}|{_LEAD}\p{{L}}+|\p{{N}}{_TAIL}",
    "gpt-4o": _cased(r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", _CONTRACTION),
    "gpt-4o-ascii": _cased(r"(?:(?=\p{L})[^a-z])", r"(?:(?=\p{L})[^A-Z])", _ASCII_CONTRACTION),
}


def byte_level(made: Made, pattern: str | None = None) -> dict[str, object]:
    """tokenizer.json of a byte-level BPE vocabulary, cut by the pattern called `pattern` (or its own name)."""
    split = {"type": "Split", "pattern": {"Regex": PATTERNS[pattern or made.name]}, "behavior": "Isolated"}
    alphabet = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    added = _added(made)
    spellings = cast("list[str]", made.metadata["tokenizer.ggml.tokens"])
    last = max(number for number in range(len(spellings)) if number not in added)
    behind = {number for number in added if number > last}  # readers number added tokens on from the vocabulary's end
    merges = [line.split(" ") for line in cast("list[str]", made.metadata["tokenizer.ggml.merges"])]
    post = None
    if made.metadata.get("tokenizer.ggml.add_bos_token", made.name == "llama-bpe"):
        post = _begin_with(spellings, made)
    return _document(
        added,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{**split, "invert": False}, alphabet]},
        decoder=alphabet,
        post_processor=post,
        model={
            "vocab": {spelling: number for number, spelling in enumerate(spellings) if number not in behind},
            "merges": merges,
            "ignore_merges": made.name == "llama-bpe",
        },
    )


def sentencepiece(made: Made) -> dict[str, object]:
    """tokenizer.json of a SentencePiece vocabulary: merges are what the scores allow, best score first."""
    spellings = cast("list[str]", made.metadata["tokenizer.ggml.tokens"])
    scores = cast("list[float]", made.metadata["tokenizer.ggml.scores"])
    ids = {spelling: number for number, spelling in enumerate(spellings)}
    joins = [
        (-scores[number], spelling[:cut], spelling[cut:])
        for spelling, number in ids.items()
        for cut in range(1, len(spelling))
        if spelling[:cut] in ids and spelling[cut:] in ids
    ]
    added = _added(made, stripping=made.name == "phi-3")
    post = _begin_with(spellings, made) if made.metadata["tokenizer.ggml.add_bos_token"] else None
    normalizers = [
        {"type": "Prepend", "prepend": SPACE_MARK},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK},
    ]
    decoders = [
        {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return _document(
        added,
        normalizer={"type": "Sequence", "normalizers": normalizers},
        decoder={"type": "Sequence", "decoders": decoders},
        post_processor=post,
        model={
            "vocab": ids,
            "merges": [[left, right] for _, left, right in sorted(joins)],
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
        },
    )


def write(path: Path, document: dict[str, object]) -> Path:
    """Write a tokenizer.json."""
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def _added(made: Made, *, stripping: bool = False) -> dict[int, dict[str, object]]:
    spellings = cast("list[str]", made.metadata["tokenizer.ggml.tokens"])
    kinds = cast("Sequence[int]", made.metadata["tokenizer.ggml.token_type"])
    return {
        number: {
            "id": number,
            "content": spellings[number],
            "single_word": False,
            "lstrip": False,
            "rstrip": stripping and spellings[number] not in {"<unk>", "<s>", "<|endoftext|>"},
            "normalized": False,
            "special": kind != USER_DEFINED,
        }
        for number, kind in enumerate(kinds)
        if kind in {CONTROL, UNKNOWN, USER_DEFINED} or spellings[number] == CONTROL_LOOKING
    }


def _begin_with(spellings: list[str], made: Made) -> dict[str, object]:
    number = cast("int", made.metadata["tokenizer.ggml.bos_token_id"])
    begin, text = {"SpecialToken": {"id": spellings[number], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [begin, text],
        "pair": [begin, text, second],
        "special_tokens": {
            spellings[number]: {"id": spellings[number], "ids": [number], "tokens": [spellings[number]]}
        },
    }


def _document(added: dict[int, dict[str, object]], model: dict[str, object], **parts: object) -> dict[str, object]:
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return {
        "version": "1.0",
        **empty,
        **parts,
        "added_tokens": list(added.values()),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            **model,
        },
    }
