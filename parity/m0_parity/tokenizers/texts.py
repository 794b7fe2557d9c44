"""Texts that tokenizers disagree on: one generator per kind of trouble, and mixtures of them.

Every case depends on seed, vocabulary and index alone, so that a mismatch can be asked for again.
"""

# ruff: noqa: RUF001  (characters that look alike are what a tokenizer must tell apart)

from __future__ import annotations

import random
import unicodedata
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final, cast

from m0_models.bytelevel import CONTROL, NORMAL, USER_DEFINED, byte_characters
from m0_models.vocabularies import SPACE_MARK, UNKNOWN, Made
from m0_worker.tokenizers.unicode_classes import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable

_SPACES: Final = (
    "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
)
_NUMBERS: Final = "0123456789²³¼½٠١٢٣०१२௧๓Ⅷⅻ①⑳㊿𝟘𝟡𑁦"
_CONTRACTIONS: Final = (
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "'S",
    "'T",
    "'Re",
    "'VE",
    "'lL",
    "’s",
    "'ſ",
    "'x",
    "'",
)
_MARKS: Final = "\u0300\u0301\u0308\u0327\u0345\u05b0\u064b\u093f\u0e31\u20dd\u3099\ufe0f\U0001f3fd\u200d\U000e0061"
_CASED: Final = "aZéÉßẞıİǅʰªºαΩжЖѴᲐაꭰ𐐀𐐨ﬁ中あ한"
_EMOJI: Final = ("😀", "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "❤️", "🏴\U000e0067\U000e0062\U000e007f", "#️⃣", "©", "™")
_SYMBOLS: Final = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~€£¥§¶«»“”‘’–—…、。「」！？／＝￥∑≤→◆█"


@cache
def _class_borders() -> tuple[int, ...]:
    """The code points on both sides of every change of character class."""
    spaced = "".join(f" {letter}" if letter.isupper() else letter for letter in RUNS).split()
    starts = accumulate((int(run[1:] or "1", 16) for run in spaced), initial=0x80)
    codes = {code for start in starts for code in (start - 1, start) if code < 0x110000}
    return tuple(sorted(codes - set(range(0xD800, 0xE000))))


class Texts:
    """The texts for one vocabulary.

    Args:
        made: whose tokens and special tokens appear in the texts.
        seed: of all of them.
        longest: in characters.
        settled: only characters that Unicode 14 already had, for references with another Unicode version.
    """

    def __init__(self, made: Made, seed: int = 0, longest: int = 1000, *, settled: bool = False) -> None:
        self._seed = f"{seed}:{made.name}"
        self._longest = longest
        self._settled = settled
        spellings = cast("list[str]", made.metadata["tokenizer.ggml.tokens"])
        kinds = cast("list[int]", made.metadata["tokenizer.ggml.token_type"])
        self._words = [
            _readable(made, spelling) for spelling, kind in zip(spellings, kinds, strict=True) if kind == NORMAL
        ]
        special = {CONTROL, UNKNOWN, USER_DEFINED}
        self._specials = [spelling for spelling, kind in zip(spellings, kinds, strict=True) if kind in special]
        self._kinds: tuple[Callable[[random.Random], str], ...] = (
            self._tokens, self._tokens, self._sentence, self._characters, self._borders, self._whitespace,
            self._numbers, self._contractions, self._marks, self._special, self._cased, self._repeated, self._symbols,
            self._line_ends, self._emoji, self._ascii,
        )  # fmt: skip

    def text(self, index: int) -> str:
        """The text number `index`."""
        draw = random.Random(f"{self._seed}:{index}")  # noqa: S311  (test data)
        pieces = [draw.choice(self._kinds)(draw) for _ in range(draw.choice((1, 1, 2, 3, 4, 6, 8)))]
        text = "".join(pieces)[: self._longest]
        if self._settled:
            text = "".join(character for character in text if _is_settled(character))
        return text

    def _tokens(self, draw: random.Random) -> str:
        return draw.choice(("", "", " ", "\n")).join(draw.choices(self._words, k=draw.randrange(1, 12)))

    def _sentence(self, draw: random.Random) -> str:
        return "".join(
            draw.choice(self._words) + draw.choice((" ", " ", ", ", ".\n", "  ")) for _ in range(draw.randrange(1, 30))
        )

    def _characters(self, draw: random.Random) -> str:
        limit = draw.choice((0x250, 0x3000, 0x10000, 0x20000, 0x110000))
        codes = (draw.randrange(limit) for _ in range(draw.randrange(1, 20)))
        return _bordered(draw, [code for code in codes if not 0xD800 <= code < 0xE000])

    def _borders(self, draw: random.Random) -> str:
        return _bordered(draw, draw.choices(_class_borders(), k=draw.randrange(1, 12)))

    def _whitespace(self, draw: random.Random) -> str:
        alphabet = draw.choice((" ", " \t", " \n", " \r\n", _SPACES))
        return "".join(draw.choices(alphabet, k=draw.choice((1, 2, 3, 4, 5, 9, 17)))) + draw.choice(("", "a", "1", "!"))

    def _numbers(self, draw: random.Random) -> str:
        alphabet = draw.choice(("0123456789", "0123456789", _NUMBERS, "0123456789.,:/ "))
        return "".join(draw.choices(alphabet, k=draw.randrange(1, 12)))

    def _contractions(self, draw: random.Random) -> str:
        return "".join(draw.choice(self._words) + draw.choice(_CONTRACTIONS) for _ in range(draw.randrange(1, 5)))

    def _marks(self, draw: random.Random) -> str:
        return "".join(draw.choice(_CASED) + "".join(draw.choices(_MARKS, k=draw.randrange(4))) for _ in range(5))

    def _special(self, draw: random.Random) -> str:
        spelling = draw.choice(self._specials)
        if draw.random() < 0.2:
            spelling = spelling[draw.randrange(2) : len(spelling) - draw.randrange(2)]
        space = draw.choice(("", "", " ", "  ", "\n", "\t ", "\u3000"))
        return space + spelling * draw.choice((1, 1, 1, 2, 3)) + draw.choice(("", space, " \n x", SPACE_MARK))

    def _cased(self, draw: random.Random) -> str:
        return "".join(draw.choices(draw.choice(("abcXYZ", "aZ'", _CASED, _CASED + "aaZZ 1")), k=draw.randrange(1, 25)))

    def _repeated(self, draw: random.Random) -> str:
        unit = draw.choice(
            (draw.choice(self._words), draw.choice("aA1 =-\n中"), draw.choice(_SPACES), draw.choice(_EMOJI))
        )
        return unit * draw.randrange(2, 60)

    def _symbols(self, draw: random.Random) -> str:
        return "".join(draw.choices(_SYMBOLS, k=draw.randrange(1, 12))) + draw.choice(("", "\n", "/\r\n/", " "))

    def _line_ends(self, draw: random.Random) -> str:
        return "".join(draw.choices(("\n", "\r\n", "\r", " ", "x", "!", "\t"), k=draw.randrange(1, 12)))

    def _emoji(self, draw: random.Random) -> str:
        return draw.choice(("", " ")).join(draw.choices(_EMOJI, k=draw.randrange(1, 5)))

    def _ascii(self, draw: random.Random) -> str:
        return "".join(chr(draw.randrange(128)) for _ in range(draw.randrange(1, 40)))


def _bordered(draw: random.Random, codes: list[int]) -> str:
    """Characters next to ASCII ones that the vocabularies have merges with, so that their class shows in the ids."""
    return "".join(chr(code) + draw.choice(("", "", "b", "7", "!", " ", "b7")) for code in codes)


def _readable(made: Made, spelling: str) -> str:
    """A token as text; one that is a part of a character becomes U+FFFD."""
    if made.metadata["tokenizer.ggml.model"] == "llama":
        return spelling.replace(SPACE_MARK, " ")
    table = _bytes_of_characters()
    if any(character not in table for character in spelling):
        return spelling
    return bytes(table[character] for character in spelling).decode(errors="replace")


@cache
def _bytes_of_characters() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(byte_characters())}


def _is_settled(character: str) -> bool:
    return unicodedata.ucd_3_2_0.category(character) not in {"Cn", "Co"}
