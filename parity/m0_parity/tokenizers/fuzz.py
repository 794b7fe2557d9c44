"""Our tokenizers against llama.cpp's on generated texts: equal ids, equal pieces, and texts that come back."""

from __future__ import annotations

import random
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from m0_models import tokenizer_json, vocabularies
from m0_models.bytelevel import byte_characters
from m0_worker.gguf import GgufFile
from m0_worker.tokenizers import Tokenizer, load_tokenizer
from m0_worker.tokenizers.pretokenizers import PRE_TOKENIZERS

from m0_parity.llamacpp import Model
from m0_parity.tokenizers.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The hf-json backend is compared through the reading of the gpt-4o pattern that llama.cpp has, because the published
# one differs on purpose (models/tokenizer_json.py).
HF_JSON: Final = "hf-json"
BACKENDS: Final = (*vocabularies.NAMES, *(name for name in PRE_TOKENIZERS if name not in vocabularies.NAMES), HF_JSON)
# llama.cpp finds these in any text, because it takes them for user-defined tokens; tokenizer.json calls them special.
_STRUCTURE: Final = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>", "<|end|>")
_CONTEXT: Final = 8


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison."""

    index: int
    text: str
    add_special: bool
    parse_special: bool


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first difference found for a vocabulary, as it was drawn and as small as it could be made."""

    vocabulary: str
    case: Case
    shrunk: str
    ours: list[int]
    reference: list[int]

    def describe(self) -> str:
        """Several lines for a terminal."""
        first = next(
            (at for at, (a, b) in enumerate(zip(self.ours, self.reference, strict=False)) if a != b),
            min(len(self.ours), len(self.reference)),
        )
        around = slice(max(0, first - _CONTEXT), first + _CONTEXT)
        flags = f"add_special={self.case.add_special}, parse_special={self.case.parse_special}"
        lines = (
            f"{self.vocabulary}: text {self.case.index} differs from llama.cpp at token {first} ({flags})",
            f"  text       {self.shrunk!r}",
            f"  characters {' '.join(f'U+{ord(character):04X}' for character in self.shrunk)}",
            f"  ours       {self.ours}",
            f"  llama.cpp  {self.reference}",
            f"  around     ours {self.ours[around]}, llama.cpp {self.reference[around]}",
            f"  drawn as   {self.case.text!r}",
        )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Pair:
    """Both tokenizers of one vocabulary."""

    name: str
    made: vocabularies.Made
    ours: Tokenizer
    reference: Model
    missing: bytes
    """The bytes that a byte-level vocabulary has no token for, as some real ones lack control characters."""


def _missing(made: vocabularies.Made) -> bytes:
    spellings = frozenset(cast("list[str]", made.metadata["tokenizer.ggml.tokens"]))
    return bytes(byte for byte, character in enumerate(byte_characters()) if character not in spellings)


@contextmanager
def opened(name: str) -> Iterator[Pair]:
    """Write the vocabulary, open it with both, and remove it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        made = vocabularies.make("gpt-4o" if name == HF_JSON else name)
        path = made.write(Path(folder) / "vocabulary.gguf")
        if name == HF_JSON:
            document = tokenizer_json.byte_level(made, "gpt-4o-ascii")
            tokenizer_json.write(path.with_name("tokenizer.json"), document)
        with GgufFile.open(path) as gguf:
            ours = load_tokenizer(gguf, path.parent)
        with Model(path, vocab_only=True) as reference:
            yield Pair(name, made, ours, reference, _missing(made))


@contextmanager
def opened_file(path: Path) -> Iterator[Pair]:
    """Open any GGUF file, real or made, with both."""
    with GgufFile.open(path) as gguf:
        ours = load_tokenizer(gguf, path.parent)
        made = vocabularies.Made(path.stem, gguf.architecture, dict(gguf.metadata))
    with Model(path, vocab_only=True) as reference:
        yield Pair(path.stem, made, ours, reference, _missing(made))


def cases(pair: Pair, count: int, seed: int) -> Iterator[Case]:
    """The texts of a run, each with one of the four combinations of flags."""
    texts = Texts(pair.made, seed, settled=pair.name == HF_JSON)
    for index in range(count):
        text = texts.text(index)
        flags = random.Random(f"{seed}:{index}").randrange(4)  # noqa: S311  (test data)
        parse_special = bool(flags & 2) or (pair.name == HF_JSON and any(token in text for token in _STRUCTURE))
        yield Case(index, text, bool(flags & 1), parse_special)


def fuzz(pair: Pair, count: int, seed: int = 0, progress: Callable[[int], None] | None = None) -> Mismatch | None:
    """Compare `count` texts; the first mismatch, shrunk, or None."""
    for case in cases(pair, count, seed):
        if progress is not None and case.index % 1000 == 0:
            progress(case.index)
        if differs(pair, case, case.text):
            shrunk = shrink(case.text, lambda text, case=case: differs(pair, case, text))  # type: ignore[misc]  # a default binds the case
            ours, reference = both(pair, case, shrunk)
            return Mismatch(pair.name, case, shrunk, ours, reference)
    return None


def both(pair: Pair, case: Case, text: str) -> tuple[list[int], list[int]]:
    """Our ids and llama.cpp's."""
    return (
        pair.ours.encode(text, add_special=case.add_special, parse_special=case.parse_special),
        pair.reference.tokenize(text, add_special=case.add_special, parse_special=case.parse_special),
    )


def differs(pair: Pair, case: Case, text: str) -> bool:
    """Whether the ids differ, or a string that must come back does not."""
    ours, reference = both(pair, case, text)
    return ours != reference or not comes_back(pair, case, text, ours)


def comes_back(pair: Pair, case: Case, text: str, ids: list[int]) -> bool:
    """Byte-level BPE is reversible wherever no control token stands for text, but for bytes that are no token."""
    if case.parse_special or case.add_special or pair.made.metadata["tokenizer.ggml.model"] != "gpt2":
        return True
    back = b"".join(map(pair.ours.token_bytes, ids))
    return back == text.encode().translate(None, pair.missing)


def shrink(text: str, fails: Callable[[str], bool]) -> str:
    """The text with ever smaller parts left out, as long as it still fails (delta debugging, Zeller 2002)."""
    size = max(1, len(text) // 2)
    while True:
        at = 0
        while at < len(text):
            shorter = text[:at] + text[at + size :]
            if fails(shorter):
                text = shorter
            else:
                at += size
        if size == 1:
            return text
        size //= 2


def decoding_that_differs(pair: Pair, count: int, seed: int = 0) -> tuple[list[int], str, str] | None:
    """The first of `count` random id sequences that we decode otherwise than llama.cpp: ids, ours, its.

    Random ids cut characters into pieces, leave them unfinished and put bytes between that are no UTF-8 at all. The
    reference is its tokens' bytes, as its server streams them: llama_detokenize takes spaces before punctuation away
    afterwards in some vocabularies (gpt-2, llama-bpe), which no stream can.
    """
    draw = random.Random(f"{seed}:{pair.name}:ids")  # noqa: S311  (test data)
    pieces = [pair.reference.piece(number) for number in range(pair.reference.n_vocab)]
    bytewise = [number for number, piece in enumerate(pieces) if len(piece) == 1 and piece[0] >= 0x80]
    spaced = pair.made.metadata["tokenizer.ggml.model"] == "llama"
    for _ in range(count):
        pool = draw.choice((range(len(pieces)), bytewise or range(len(pieces))))
        ids = draw.choices(pool, k=draw.randrange(1, 30))
        data = b"".join(pieces[number] for number in ids)
        expected = (data.removeprefix(b" ") if spaced else data).decode(errors="replace")
        ours = pair.ours.decode(ids)
        if ours != expected:
            return ids, ours, expected
    return None


def pieces_that_differ(pair: Pair) -> list[tuple[int, bytes, bytes]]:
    """Every token whose bytes are not llama.cpp's: id, ours, its."""
    ids = range(pair.reference.n_vocab)
    both_pieces = ((number, pair.ours.token_bytes(number), pair.reference.piece(number)) for number in ids)
    return [(number, ours, reference) for number, ours, reference in both_pieces if ours != reference]
