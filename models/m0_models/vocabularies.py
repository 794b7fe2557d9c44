"""Vocabularies trained by code, one per pre-tokenizer, as real files have them: merges or scores, special tokens.

Merges are learnt on the unsplit corpus, across words, lines and digits. A pre-tokenizer that cuts in the wrong place
thus changes the ids at once; a vocabulary trained behind the same pre-tokenizer would hide most mistakes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from m0_models import bytelevel, container
from m0_models.corpus import corpus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

UNKNOWN: Final = 2
BYTE: Final = 6
SPACE_MARK: Final = "\u2581"
MERGES: Final = 900
_PER_ROUND: Final = 12
# Symbols of the training text are one private-use character each, so that a merge is one `str.replace`.
_PRIVATE: Final = 0xF0000

_CHAT: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA: Final = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
    "<|reserved_special_token_0|>",
)  # fmt: skip
_HARMONY: Final = (
    "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
    "<|message|>", "<|call|>",
)  # fmt: skip
_PHI3: Final = (
    "<|endoftext|>", "<|assistant|>", "<|placeholder1|>", "<|end|>", "<|system|>", "<|user|>",
)  # fmt: skip
USER_DEFINED: Final = ("<tool_call>", "</tool_call>", "    ")
CONTROL_LOOKING: Final = "<|fim_prefix|>"  # typed as ordinary text, as some converters do


@dataclass(frozen=True, slots=True)
class Made:
    """A vocabulary: the metadata of a GGUF file that holds nothing else."""

    name: str
    architecture: str
    metadata: Mapping[str, object]

    @property
    def digest(self) -> str:
        """SHA-256 of the metadata: says whether a stored expectation still belongs to this vocabulary."""
        text = json.dumps(self.metadata, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def write(self, path: Path) -> Path:
        """Write a vocabulary-only GGUF file."""
        return container.write(path, self.architecture, self.metadata, ())


def train(symbols: str, count: int) -> list[tuple[str, str]]:
    """The `count` merges learnt on a text of one-character symbols, best first; longer symbols are spelt out.

    Byte-pair encoding (Sennrich et al. 2016), a dozen merges per round instead of one; ties go to the lesser pair.
    """
    spelled: dict[str, str] = {}
    merges: list[tuple[str, str]] = []
    seen: set[str] = set()
    text = symbols
    while len(merges) < count:
        counts = Counter(pairwise(text))
        best = sorted(counts, key=lambda pair: (-counts[pair], pair))
        before = len(merges)
        for left, right in best[: min(_PER_ROUND, count - len(merges))]:
            parts = spelled.get(left, left), spelled.get(right, right)
            if counts[left, right] < 2 or "".join(parts) in seen:
                continue
            symbol = chr(_PRIVATE + len(merges))
            text = text.replace(left + right, symbol)
            spelled[symbol] = "".join(parts)
            seen.add(spelled[symbol])
            merges.append(parts)
        if len(merges) == before:
            break
    return merges


@cache
def _byte_merges() -> tuple[tuple[str, str], ...]:
    spelling = bytelevel.spell(corpus().encode())
    trained = train(spelling, MERGES)
    known = {left + right for left, right in trained}
    return (*trained, *dict.fromkeys(pair for pair in _border_merges() if "".join(pair) not in known))


def _border_merges() -> list[tuple[str, str]]:
    """Merges across cuts that trained ones never reach: of ASCII with other characters, of lower case with upper case.

    Whether a rare character counts as a letter decides only where text is cut. Without these, a wrong character class
    or a cut left out would leave the ids as they are.
    """
    firsts = [bytelevel.spell(bytes([byte])) for byte in range(0xC2, 0xF5)]
    lasts = [bytelevel.spell(bytes([byte])) for byte in range(0x80, 0xC0)]
    alef = bytelevel.spell("\u05d0".encode())  # two bytes: a letter that some patterns do not name
    return (
        [(before, first) for before in ("b", "7", alef[1]) for first in firsts]
        + [(last, after) for after in ("b", "7", "!", alef[0]) for last in lasts]
        + [(lower, upper) for lower in "abcz" for upper in "AXYZ"]
    )


_FAMILIES: Final = {
    "gpt-2": ("gpt2", ("<|endoftext|>",), "<|endoftext|>", "<|endoftext|>"),
    "default": ("llama", ("<s>", "</s>"), "<s>", "</s>"),
    "llama-bpe": ("llama", _LLAMA, "<|begin_of_text|>", "<|eot_id|>"),
    "qwen2": ("qwen2", _CHAT, "<|endoftext|>", "<|im_end|>"),
    "gpt-4o": ("gpt-oss", _HARMONY, "<|startoftext|>", "<|return|>"),
}


def byte_bpe(pre: str) -> Made:
    """A byte-level BPE vocabulary: 256 bytes, the merges, and the special tokens of the pre-tokenizer's family.

    A name without a family of its own gets Llama 3's, since its tokens show what else a name can imply.
    """
    family = pre if pre in _FAMILIES else "llama-bpe"
    architecture, controls, bos, eos = _FAMILIES[family]
    vocabulary = bytelevel.Vocabulary(pre=pre)
    for left, right in _byte_merges():
        vocabulary.merges.append(f"{left} {right}")
        vocabulary.strings.append(left + right)
        vocabulary.kinds.append(bytelevel.NORMAL)
    if family == "llama-bpe":  # pieces that are tokens although no merge leads to them
        for word in (" worker", "haiku", "ZWJ", " unreachable"):
            vocabulary.add(word.encode())
    vocabulary.strings.append(CONTROL_LOOKING)
    vocabulary.kinds.append(bytelevel.NORMAL)
    for spelling in controls:
        vocabulary.control(spelling)
    for spelling in USER_DEFINED:
        vocabulary.user_defined(spelling)
    ids = {spelling: number for number, spelling in enumerate(vocabulary.strings)}
    metadata = _shape(architecture, f"made {pre}") | vocabulary.metadata(ids[eos], ids[bos])
    if family == "llama-bpe":  # what the file does not say, the pre-tokenizer's name decides
        del metadata["tokenizer.ggml.add_bos_token"]
    return Made(pre, architecture, metadata)


def sentencepiece(name: str) -> Made:
    """A SentencePiece vocabulary with byte fallback.

    `spm` has equal scores and lacks every other character; `phi-3` is regular, with the special tokens of Phi-3.
    """
    phi3 = name == "phi-3"
    text = corpus().replace(" ", SPACE_MARK)
    merges = train(text, MERGES)
    characters = sorted(set(text))[:: 1 if phi3 else 2]  # a character that is no token can still be part of one
    strings = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [UNKNOWN, bytelevel.CONTROL, bytelevel.CONTROL, *[BYTE] * 256]
    scores = [0.0] * len(strings)
    for rank, (left, right) in enumerate(merges):
        strings.append(left + right)
        kinds.append(bytelevel.NORMAL)
        scores.append(-float(rank if phi3 else rank // 4))
    for character in sorted({*characters, SPACE_MARK} - set(strings)):
        scores.append(-float(len(strings)))
        strings.append(character)
        kinds.append(bytelevel.NORMAL)
    for spelling in _PHI3 if phi3 else ():
        strings.append(spelling)
        kinds.append(bytelevel.CONTROL)
        scores.append(-1000.0)
    for spelling in USER_DEFINED[:2]:
        strings.append(spelling)
        kinds.append(bytelevel.USER_DEFINED)
        scores.append(-1000.0)
    architecture = "phi3" if phi3 else "llama"
    metadata = _shape(architecture, "made Phi-3 vocabulary" if phi3 else "made SentencePiece vocabulary") | {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": strings,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": strings.index("<|endoftext|>") if phi3 else 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": not phi3,
    }
    return Made(name, architecture, metadata)


BYTE_BPE: Final = tuple(_FAMILIES)
SENTENCEPIECE: Final = ("spm", "phi-3")
NAMES: Final = (*BYTE_BPE, *SENTENCEPIECE)


@cache
def make(name: str) -> Made:
    """The vocabulary called `name`: one of `NAMES`, or a byte-level one for the pre-tokenizer of that name."""
    return sentencepiece(name) if name in SENTENCEPIECE else byte_bpe(name)


def _shape(architecture: str, name: str) -> dict[str, object]:
    """What llama.cpp wants to know of a model before it looks at the vocabulary."""
    return {
        "general.name": name,
        f"{architecture}.context_length": 4096,
        f"{architecture}.embedding_length": 64,
        f"{architecture}.block_count": 1,
        f"{architecture}.feed_forward_length": 64,
        f"{architecture}.attention.head_count": 1,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
    }
