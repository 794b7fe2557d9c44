r"""Pre-tokenizers: how a text is cut into the pieces that byte-pair merges stay within.

Each `tokenizer.ggml.pre` name stands for a cascade of patterns; a pattern cuts every piece left by the one before it
into its matches and the gaps between them. The patterns are those llama.cpp gives the same ids with, which are not
always the original tokenizer's: contractions spell out both cases, and `gpt-4o` tells upper from lower case in ASCII
only and leaves combining marks out of words. They run on collapsed text (see `unicode_classes`), hence the explicit
classes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from m0_worker.tokenizers.base import TokenizerError
from m0_worker.tokenizers.unicode_classes import LETTER, NUMBER, PUNCTUATION, collapse

# Bodies of character classes, for use inside [...].
_L: Final = f"A-Za-z{LETTER}"
_N: Final = f"0-9{NUMBER}"
_S: Final = r" \t\n\v\f\r"
_P: Final = rf"!-#%-*,-/:;?@\[-\]_{{}}{PUNCTUATION}"

_CONTRACTION: Final = "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
# White space before a word: all but the last character of a run, which a following word may take as its own.
_SPACE: Final = rf"[{_S}]+(?![^{_S}])|[{_S}]+"
_LINE_ENDS: Final = rf"[{_S}]*[\r\n]+"

_GPT2: Final = rf"'(?:[stmd]|re|ve|ll)| ?[{_L}]+| ?[{_N}]+| ?[^{_S}{_L}{_N}]+|{_SPACE}"


def _llama3(numbers: str) -> str:
    """The pattern of Llama 3, and of Qwen2 with another rule for runs of numbers."""
    words = rf"[^\r\n{_L}{_N}]?[{_L}]+"
    return rf"{_CONTRACTION}|{words}|{numbers}| ?[^{_S}{_L}{_N}]+[\r\n]*|{_LINE_ENDS}|{_SPACE}"


def _gpt4o() -> str:
    """Words split where ASCII lower case meets upper case; any non-ASCII letter counts as both."""
    upper, lower = rf"[A-Z{LETTER}]", rf"[a-z{LETTER}]"
    lead, tail = rf"[^\r\n{_L}{_N}]?", rf"(?:{_CONTRACTION})?"
    words = rf"{lead}{upper}*{lower}+{tail}|{lead}{upper}+{lower}*{tail}"
    return rf"{words}|[{_N}]{{1,3}}| ?[^{_S}{_L}{_N}]+[\r\n/]*|{_LINE_ENDS}|{_SPACE}"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One entry of the table: the cascade, and what else the name implies."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    """A piece that is a token as a whole is taken whole, whether or not merges lead there."""
    add_bos: bool = False
    """The default where the file does not say."""


_DIGIT: Final = rf"[{_N}]"

_GPT_2: Final = PreTokenizer((_GPT2,))
_STARCODER: Final = PreTokenizer((_DIGIT, _GPT2))
_LLAMA_3: Final = PreTokenizer((_llama3(rf"[{_N}]{{1,3}}"),), ignore_merges=True, add_bos=True)
_DBRX: Final = PreTokenizer(_LLAMA_3.patterns)
_QWEN2: Final = PreTokenizer((_llama3(_DIGIT),))
_GPT_4O: Final = PreTokenizer((_gpt4o(),))
_DEFAULT: Final = PreTokenizer((rf"[{_P}$+<=>^~|]+", _GPT2, rf"[{_N}]+", "[0-9][0-9][0-9]"))

PRE_TOKENIZERS: Final = {
    "default": _DEFAULT,
    **dict.fromkeys(
        ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4", "gigachat", "mellum", "granite-docling"),
        _GPT_2,
    ),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"), _STARCODER
    ),
    **dict.fromkeys(
        ("llama-bpe", "llama-v3", "llama3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"), _LLAMA_3
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _DBRX),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "kormo", "grok-2", "solar-open"), _QWEN2
    ),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "minimax-m2"), _GPT_4O),
}


def pre_tokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer called `name`.

    Raises:
        TokenizerError: an unknown name; cutting text by the wrong rule would give wrong ids without a sign.
    """
    try:
        return PRE_TOKENIZERS[name]
    except KeyError:
        raise TokenizerError(
            f"tokenizer.ggml.pre = {name!r} is an unknown pre-tokenizer; supported: {', '.join(PRE_TOKENIZERS)}"
        ) from None


class Splitter:
    """Cuts text into pieces by a cascade of patterns."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._first = re.compile(patterns[0])
        self._later = tuple(map(re.compile, patterns[1:]))

    def split(self, text: str) -> list[str]:
        """The pieces of `text`, in order and without loss."""
        collapsed = collapse(text)
        spans = _cut(self._first, collapsed, [(0, len(text))])
        for pattern in self._later:
            spans = _cut(pattern, collapsed, spans)
        return [text[start:end] for start, end in spans]


def _cut(pattern: re.Pattern[str], text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cut each span into matches and gaps. A match sees nothing beyond its span."""
    cut: list[tuple[int, int]] = []
    for start, end in spans:
        done = start
        for match in pattern.finditer(text, start, end):
            first, last = match.span()
            if first > done:
                cut.append((done, first))
            cut.append((first, last))
            done = last
        if done < end:
            cut.append((done, end))
    return cut
