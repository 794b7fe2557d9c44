"""Pre-tokenizers: how a string is cut into the pieces that byte-pair merges stay within.

Each `tokenizer.ggml.pre` name stands for a cascade of patterns (see `patterns`); a pattern cuts every piece left by the
one before it into its matches and the gaps between them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from m0_worker.tokenizers import patterns
from m0_worker.tokenizers.base import TokenizerError
from m0_worker.tokenizers.patterns import Exact
from m0_worker.tokenizers.unicode_classes import collapse, collapse_spaces


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One entry of the table: the cascade, and what else the name implies."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    """A piece that is a token as a whole is taken whole, whether or not merges lead there."""
    add_bos: bool = False
    """The default where the file does not say."""


_LLAMA_3: Final = patterns.llama_3(patterns.THREE_DIGITS)
_QWEN2: Final = patterns.llama_3(patterns.DIGIT)

# Names that share a rule stand in one line; every one is compared with llama.cpp by the parity room's rung T0.
PRE_TOKENIZERS: Final = {
    name: rule
    for names, rule in {
        "default": PreTokenizer(
            (patterns.SYMBOLS, patterns.GPT_2, patterns.DIGITS, patterns.THREE_ASCII_DIGITS),
        ),
        "gpt-2 phi-2 mpt olmo jais trillion exaone4 gigachat mellum granite-docling": PreTokenizer((patterns.GPT_2,)),
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2": PreTokenizer(
            (patterns.DIGIT, patterns.GPT_2)
        ),
        "llama-bpe llama-v3 llama3 falcon3 falcon-h1 pixtral midm-2.0 lfm2": PreTokenizer(
            (_LLAMA_3,), ignore_merges=True, add_bos=True
        ),
        "dbrx smaug-bpe": PreTokenizer((_LLAMA_3,)),
        "qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan kormo grok-2 solar-open": PreTokenizer((_QWEN2,)),
        "minicpm5": PreTokenizer((patterns.THREE_DIGITS, patterns.llama_3(patterns.DIGITS)), ignore_merges=True),
        "laguna": PreTokenizer((patterns.LINES, _QWEN2)),
        "seed-coder": PreTokenizer((patterns.llama_3(patterns.DIGIT, symbols_end=""),)),
        "bailingmoe llada-moe": PreTokenizer((patterns.llama_3(patterns.DIGIT, line_ends=patterns.ONE_LINE_END),)),
        "ufakzeka": PreTokenizer((patterns.llama_3(patterns.DIGIT, contraction=""),)),
        "gpt-4o llama4 kanana2 minimax-m2": PreTokenizer((patterns.cased(patterns.THREE_DIGITS),)),
        "tekken": PreTokenizer((patterns.cased(patterns.DIGIT, tail=""),), ignore_merges=True, add_bos=True),
        "falcon": PreTokenizer((patterns.SYMBOLS_AND_ACCENT, patterns.GPT_2, patterns.THREE_ASCII_DIGITS)),
        "poro-chat bloom gpt3-finnish": PreTokenizer((patterns.CLAUSES,)),
        "viking": PreTokenizer((patterns.CLAUSES, patterns.DIGIT)),
        "deepseek-llm": PreTokenizer(
            (
                patterns.LINE_END,
                patterns.CASED_WORD,
                patterns.WIDE_PUNCTUATION,
                patterns.FINAL_SPACE,
                patterns.EAST_ASIAN,
                patterns.DIGITS,
            )
        ),
        "deepseek-coder": PreTokenizer(
            (
                patterns.LINE_END,
                patterns.SPACED_WORD,
                patterns.SPACED_PUNCTUATION,
                patterns.EAST_ASIAN,
                patterns.DIGIT,
            )
        ),
    }.items()
    for name in names.split()
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

    def __init__(self, cascade: tuple[str, ...]) -> None:
        self.cascade = cascade
        self._steps = tuple((re.compile(pattern), isinstance(pattern, Exact)) for pattern in cascade)
        self._exact = any(exact for _, exact in self._steps)

    def split(self, text: str) -> list[str]:
        """The pieces of `text`, in order and without loss."""
        collapsed = collapse(text)
        spaced = collapse_spaces(text) if self._exact else collapsed
        spans = [(0, len(text))]
        for pattern, exact in self._steps:
            spans = _cut(pattern, spaced if exact else collapsed, spans)
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
