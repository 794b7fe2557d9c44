r"""The patterns that pre-tokenizers are made of.

They are those llama.cpp gives the same ids with, which are not always the original tokenizer's: contractions spell out
both cases, and `gpt-4o` and `tekken` tell upper from lower case in ASCII only and leave combining marks out of words.
Most of them run on collapsed text (see `unicode_classes`), hence the explicit classes; one that names characters beyond
ASCII is an `Exact` and runs on the text itself.
"""

from __future__ import annotations

from typing import Final

from m0_worker.tokenizers.unicode_classes import LETTER, NUMBER, PUNCTUATION


class Exact(str):
    """A pattern that names characters, not classes: its text keeps them all but white space, which becomes one."""

    __slots__ = ()


# Bodies of character classes, for use inside [...].
_L: Final = f"A-Za-z{LETTER}"
_N: Final = f"0-9{NUMBER}"
_S: Final = r" \t\n\v\f\r"
_P: Final = rf"!-#%-*,-/:;?@\[-\]_{{}}{PUNCTUATION}"

_CONTRACTION: Final = "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
# White space before a word: all but the last character of a run, which a following word may take as its own.
_SPACE: Final = rf"[{_S}]+(?![^{_S}])|[{_S}]+"
_LINE_ENDS: Final = rf"[{_S}]*[\r\n]+"
_LEAD: Final = rf"[^\r\n{_L}{_N}]?"

DIGIT: Final = rf"[{_N}]"
DIGITS: Final = rf"[{_N}]+"
THREE_DIGITS: Final = rf"[{_N}]{{1,3}}"
THREE_ASCII_DIGITS: Final = "[0-9][0-9][0-9]"
LINE_END: Final = r"[\r\n]"
LINES: Final = r"[^\n]+|\n+"

GPT_2: Final = rf"'(?:[stmd]|re|ve|ll)| ?[{_L}]+| ?[{_N}]+| ?[^{_S}{_L}{_N}]+|{_SPACE}"
SYMBOLS: Final = rf"[{_P}$+<=>^~|]+"
SYMBOLS_AND_ACCENT: Final = rf"[{_P}$+<=>^~|`]+"

# Words of languages that end a sentence in other ways than English.
CLAUSES: Final = Exact(rf" ?[^({_S}|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+")

SPACED_WORD: Final = rf"[{_S}]?[{_L}]+"
SPACED_PUNCTUATION: Final = rf"[{_S}]?[{_P}]+"
EAST_ASIAN: Final = Exact("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+")
# The letters with case of the Unicode version that the vocabulary was made with, those of living scripts.
_CASED: Final = (
    "b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c 38e-3a1 3a3-3f5 "
    "3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a "
    "1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe "
    "1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d "
    "2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee "
    "2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a "
    "ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943"
)
CASED_WORD: Final = Exact(
    rf"[{_S}]?[A-Za-z{''.join('-'.join(chr(int(end, 16)) for end in run.split('-')) for run in _CASED.split())}]+"
)
WIDE_PUNCTUATION: Final = Exact(rf"[{_S}]?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+")
FINAL_SPACE: Final = Exact(rf"[{_S}]+\Z")


def llama_3(
    numbers: str, *, contraction: str = f"{_CONTRACTION}|", symbols_end: str = r"[\r\n]*", line_ends: str = _LINE_ENDS
) -> str:
    """The pattern of Llama 3 and its kin: Qwen2 has another rule for runs of numbers, others for line ends."""
    words = rf"{_LEAD}[{_L}]+"
    return rf"{contraction}{words}|{numbers}| ?[^{_S}{_L}{_N}]+{symbols_end}|{line_ends}|{_SPACE}"


ONE_LINE_END: Final = rf"[{_S}]*[\r\n]"


def cased(numbers: str, *, tail: str = rf"(?:{_CONTRACTION})?") -> str:
    """The pattern of gpt-4o: words split where ASCII lower case meets upper case; other letters count as both."""
    upper, lower = rf"[A-Z{LETTER}]", rf"[a-z{LETTER}]"
    words = rf"{_LEAD}{upper}*{lower}+{tail}|{_LEAD}{upper}+{lower}*{tail}"
    return rf"{words}|{numbers}| ?[^{_S}{_L}{_N}]+[\r\n/]*|{_LINE_ENDS}|{_SPACE}"
