r"""Unicode 15.1 character classes, frozen.

Pre-tokenizer patterns ask for letters, numbers, punctuation and white space. The answer must not depend on the
Python or library version at hand (M0-W-1365 asks for the same tokens on every platform), and vocabularies were trained
with the classes of their day: a code point that became a letter in Unicode 16 is no letter to them. llama.cpp, too,
carries the classes of Unicode 15.1.

`collapse` replaces every non-ASCII character by one stand-in of its class, so that a pattern needs nothing but small
ASCII-like classes and any regular-expression engine gives the same answer.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import cache
from typing import Final

VERSION: Final = "15.1.0"

LETTER: Final = "\xc0"
NUMBER: Final = "\xb2"
PUNCTUATION: Final = "\xbf"
SPACE: Final = "\v"
OTHER: Final = "\xa4"
STAND_INS: Final = {"L": LETTER, "N": NUMBER, "P": PUNCTUATION, "S": SPACE, "O": OTHER}

# Runs of equal class from U+0080 upwards: the class letter (L letter, N number, P punctuation, S white space, O any
# other or unassigned) and the run's length in hexadecimal; no length means 1. `build_runs` writes it again.
RUNS: Final = (
    "O5SO1aSPO5PO2LPO6N2OLP2ONLPN3PL17OL1fOL1caO4LcOeL5O7LOLO81L5OL2O2L4PLO6LPL3OLOL14OL53OL8bO8La6OL26O2LP6L29P2O3"
    "3POPO2PO2PO9L1bO4L4P2O14P2OP2OdPOP3L2bO15NaP4L2OL63PLOfL2O7L2NaL3O2LPeO2LOL1eO1dL59ObLOeNaL21O9L2OP3LO5L16O4LO"
    "9LO3LO7PfOL19O5POLbO5L18OL6O11L2aO3aL36O3LO12LO7LaO2P2NaPL10O4L8O2L2O2L16OL7OLO3L4O3LO10LOdL2OL3O4NaL2O2N6O2LP"
    "O7L6O4L2O2L16OL7OL2OL2OL2O1fL4OLO7NaO2L3OPOeL9OL3OL16OL7OL2OL5O3LO12LOfL2O4NaPO8LObL8O2L2O2L16OL7OL2OL5O3LO1eL"
    "2OL3O4NaOLN6ObLOL6O3L3OL4O3L2OLOL2O3L2O3L3O3LcO16LO15NdO12L8OL3OL17OL10O3LO1aL3O2LO2L2O4NaO7PN7OLO3PL8OL3OL17O"
    "LaOL5O3LO1fL2OL2O4NaOL2O11L9OL3OL29O2LO10LO5L3ON7L3O4N13OL6O5L12O3L18OL9OLO2L7O1fNaO4POcL30OL2OcL7O8PNaP2O25L2"
    "OLOL5OL18OLOLaOL2O9LO2L5OLO9NaO2L4O20LO3PfOPObN14O6P4O2L8OL24O18PO2L5O43P5O4P2O25L2bO14LNaP6L6O4L4O3LO3L2O7L3O"
    "4LdOcLONaO6L26OLO5LO2L2bPL14dOL4O2L7OLOL4O2L29OL4O2L21OL4O2L7OLOL4O2LfOL39OL4O2L43O5P9N14O3L10O10L56O2L6O2PL26"
    "cOPL11SL1aP2O3L4bP3N3L8O7L12OdL13O3P2O9L12OeLdOL3OfL34O20P3LP3OLO3NaO6NaO6PbO5NaO6L59O7L5O2L22OLO5L46OaL1fO25P"
    "2NaL1eO2L5ObL2cO4L1aO6NbO25L17O7P2L35O2bNaO6NaO6P7LP6O57L2fO11L8O3NaP7O1cP2O4L1eOdL2NaL2cO16P4L24O17P5NaO3L3Na"
    "L24P2L9O7L2bO2L3P8ObPO15L4OL6OL2O3LO5Lc0O40L116O2L6O2L26O2L6O2L8OLOLOLOL1fO2L35OL7OLO3L3OL7O3L4O2L6O4LdO5L3OL7"
    "O3SbO5P18S2O5SP14OPdOPcSO10NLO2N6O3P2LNaO3P2OLdO65LO4LO2LaOLO3L5O6LOLOLOL4OLbO2L4O5L5O4LON33L2N5O17eP4O1dP2O13"
    "5N3cO4eN16O268PeN1eO31P2O1fPaO193P16O3fP4O20P2O202Le5O6L4O3L2O5P4NP2L26OLO5LO2L38O7LPOfL17O9L7OL7OL7OL7OL7OL7O"
    "L7OL7O21P2fLP20O2PcO1a2SP3OL2NPaO2PcON9O6PL5O2N3L2PO3L56O6L3PL5aPL4O5L2bOL5eO3N4OaL20O30L10O20NaO1eN8ONfO20NaO"
    "27NfO140L19c0O40L568dO43L2eP2L10dP3L10NaL2O14L2fO4POaPL1fO2L46NaO2P6O1fL9O2L67O2L40O5L2OLOL5O18L10OL3OL4OL17Od"
    "N6OaL34P4OaL32O1aP2NaO18L6P3LPL2ONaL1cO8P2L17O18PL1dO7L2fOePdOLNaO4P2L5OLaNaL5OL29O17L3OL8O4NaO2P4L17O3LO3L32O"
    "LO3L2O2L5O2LOLO18L3P2LbO5P2L3OcL6O2L6O2L6O9L7OL7OL2bOLeO6L73O8PO4NaO6L2ba4OcL17O4L31O2104L16eO2L6aO26L7OcL5O5L"
    "OLaOLdOL5OLOL2OL2OL6cO21L16bP2O10L40O2L36O28LcO14PaO16P23OPeOPO4POP2O4L5OL87O4P3OP6OP4NaP2O3P2L1aP3OPOL1aPOPOP"
    "7L59O3L6O2L6O2L6O2L3O23LcOL1aOL13OL2OLfO2LeO22L7bO5P3O4N2dOcN39O11N2Of4L1dO3L31O10N1bO4L20N4O9L14NL8NO5L26OaL1"
    "eOPL24O4L8PN5O2aL9eO2NaO6L24O4L24O4L28O8L34ObPLbOLfOL7OL2OLbOLfOL7OL2O43L137O9L16OaL8O18L6OL2aOL9O45L6O2LOL2cO"
    "L2O3LO2L17OPN8L17O2N7L1fO8N9O30L13OL2O5N5L16N6O3PL1aO5PO40L38O4N2L2N10O2N2eLOfL4OL3OL1dOaN9O7P9O7L1dN2PL1dN3O2"
    "0L8OL1cO6N5P7O9L36O3P7L16O2N8L13O5N8L12O7P4OcN7O50L49O37L33OdL33O7N6L24OcNaO126N1fOL2aO3PO2L2O4eL1dNaLO8L16ObN"
    "4P5O16L12O4P4O26L15N7O14L17OcL35OfP7O4N1eOL2O2LOdL2dObP2OP4OeL19O7NaO9L24OfNaP4LO2LO8L23OP2LOcL30OeL4P4O4PO2Na"
    "LPLP3ON14ObL12OL19OcP6OL2O3fL7OLOL4OLfOLaPO6L2fO11NaObL8O2L2O2L16OL7OL2OL5O3LO12LOcL5O9eL35O12L4P5NaP2OPOL3O1e"
    "L30O14L2PLO8NaOa6L2fO12P17L4O24L30O11P3LObNaO6PdO13L2bOdLPO6NaO36L1bO15NcP3OL7Ob9L2cOfPO64L40N13OcL8O2LO2L8OL2"
    "OL18OfLOLO2P3O9NaO46L8O2L27O10LPLO1cLOaL28O7LO4P8O9LObL2eO10P3LP5OdL49O7PaOf6L9OL25O11LP5OaN1dO3P2L1eO70L7OL2O"
    "L26O15LO9NaO6L6OL2OL20OeLO7NaO136L13O4P2O9LOLdOL22OfPdNaO56LOfN15O2aPL39aO66N6fOP5ObLc4Oa4cL61P2OdL430O11L6Ofb"
    "9L247O21b9L239O7L1fONaO4P2L4fONaO6L1eO7POaL30O7P5O4L4PObNaON7OL15O5L13O2b0L40N17P4O65L4bO5LO42LdO40L2PLO1cL17f"
    "8O8L4d6O2aL9O22e7L4OL7OL2OL123OfLO1dL3O2LOeL4O8L18cO904L6bO5LdO3L9O7LaO5PO1620N14OcN14O6cN19O87L55OL47OL2O2LO2"
    "L2O2L4OLcOLOL7OL41OL4O2L8OL7OL1cOL4OL5OLO3L7OL154O2L19OL19OL1fOL19OL1fOL19OL1fOL19OL1fOL19OL8O2N32O287P5O474L1"
    "fO6L6O105L3eO92L2dOaL7O2NaO4LO141L1eO12L2cO4NaO1d6L1cO4NaO2e6L7OL4OL2OLfOLc5O2N9O30L44O7LO4NaO4P2O311N3bON3ON4"
    "O4cN2dONfOc2L4OL1bOL2OLO2LOLaOL4OLOLO6LO4LOLOLOL3OL2OLO2LOLOLOLOLOL2OLO2L4OL7OL4OL4OLOLaOL11O5L3OL5OL11O244NdO"
    "ae3NaO406La6e0O20L103aO6LdeO2L1682OeL1d31OfL26eO9a2L21eO5e2L134bO5L1060Oddc50"
)


def class_letter(code: int) -> str:
    """The class of a code point >= 0x80 in the interpreter's own Unicode database; the source of `RUNS`."""
    category = unicodedata.category(chr(code))
    if category[0] == "Z" or code == 0x85:  # NEXT LINE is a control character with the White_Space property
        return "S"
    return category[0] if category[0] in "LNP" else "O"


def build_runs() -> str:
    """Write `RUNS` from the interpreter's database: equal to it where `unicodedata.unidata_version` is `VERSION`."""
    parts: list[str] = []
    start, current = 0x80, class_letter(0x80)
    for code in range(0x81, 0x110001):
        letter = class_letter(code) if code < 0x110000 else ""
        if letter != current:
            parts.append(current if code - start == 1 else f"{current}{code - start:x}")
            start, current = code, letter
    return "".join(parts)


@cache
def _boundaries() -> tuple[list[int], str]:
    """First code point of each run, and the stand-in of each run."""
    starts: list[int] = []
    classes: list[str] = []
    code = 0x80
    for run in (
        RUNS.replace("L", " L").replace("N", " N").replace("P", " P").replace("S", " S").replace("O", " O").split()
    ):
        starts.append(code)
        classes.append(STAND_INS[run[0]])
        code += int(run[1:] or "1", 16)
    return starts, "".join(classes)


class _StandIns(dict[int, str]):
    """Code point -> stand-in, filled as characters are met: a table of all 1,114,112 would cost tens of megabytes."""

    def __missing__(self, code: int) -> str:
        if code < 0x80:
            stand_in = chr(code)
        else:
            starts, classes = _boundaries()
            stand_in = classes[bisect_right(starts, code) - 1]
        self[code] = stand_in
        return stand_in


_STAND_INS: Final = _StandIns()


def collapse(text: str) -> str:
    """Replace each non-ASCII character by the stand-in of its class; the length stays the same."""
    return text if text.isascii() else text.translate(_STAND_INS)


@cache
def _spaces() -> dict[int, str]:
    """The stand-in of each white space beyond ASCII."""
    starts, classes = _boundaries()
    ends = [*starts[1:], 0x110000]
    runs = zip(starts, ends, classes, strict=True)
    return {code: SPACE for start, end, stand_in in runs if stand_in == SPACE for code in range(start, end)}


def collapse_spaces(text: str) -> str:
    """Replace white space beyond ASCII by one stand-in, and nothing else; the length stays the same."""
    return text if text.isascii() else text.translate(_spaces())
