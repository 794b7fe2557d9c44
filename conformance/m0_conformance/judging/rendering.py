"""How a worker writes its tokens as text, and the way back: one deviation, told once, and undone for everybody else.

A byte-level vocabulary spells bytes in 256 printable stand-ins (GPT-2's table); a worker that shows them, or puts a
space between tokens, still says which tokens it made. Which of it a worker does is found out once, by the doctor, and
stands in the settings of every recording; `Stream.pieces` and `Stream.text` are what the tokens spell, `Stream.sent`
is what came.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m0_conformance.recording.transcript import Json, Recording

INTERNAL = frozenset("\u0120\u010a\u0109\u010d")
"""How byte-level vocabularies write space, line feed, tab and carriage return."""
_NAMED = str.maketrans({"\u0120": " ", "\u010a": "\n", "\u0109": "\t", "\u010d": "\r"})
ENOUGH = 3
"""Tokens of a known text that must show a separator between them."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What a worker does to the text of its tokens."""

    stand_ins: bool = False
    """Bytes are shown as the vocabulary's stand-ins for them."""
    separator: str = ""
    """Put before every token but the first."""
    lost: str = ""
    """Taken away from every token; it cannot be put back, so texts are compared without it."""

    def __bool__(self) -> bool:
        return self.stand_ins or bool(self.separator) or bool(self.lost)

    def worn(self, text: str) -> str:
        """A text that tokens spell, as far as this worker's way with it lets one read it."""
        return text.replace(self.lost, "") if self.lost else text

    def as_json(self) -> dict[str, Json] | None:
        """For a recording's settings; None for the text that M0 has."""
        return {"stand_ins": self.stand_ins, "separator": self.separator, "lost": self.lost} if self else None


PLAIN = Rendering()


def rendering_of(recording: Recording | None) -> Rendering:
    """What the doctor found out about the worker of a recording."""
    value = None if recording is None else recording.settings.get("rendering")
    if not isinstance(value, dict):
        return PLAIN
    return Rendering(value.get("stand_ins") is True, str(value.get("separator") or ""), str(value.get("lost") or ""))


@cache
def _bytes() -> dict[str, int]:
    """Stand-in to byte: printable Latin-1 stands for itself, all else for what comes from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


def read_back(pieces: Sequence[str], rendering: Rendering) -> list[str]:
    """The pieces that the tokens spell, one for each that came."""
    shown = list(pieces)
    if rendering.separator:
        # No stand-in is a space, so there every space was put in, also inside pieces that were glued together.
        shown = [
            piece.replace(rendering.separator, "")
            if rendering.stand_ins
            else piece.removeprefix(rendering.separator if number else "")
            for number, piece in enumerate(shown)
        ]
    return _decoded(shown) if rendering.stand_ins else shown


def _decoded(pieces: list[str]) -> list[str]:
    table = _bytes()
    if all(letter in table for piece in pieces for letter in piece):
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            return [decoder.decode(bytes(table[letter] for letter in piece)) for piece in pieces]
        except UnicodeDecodeError:
            pass  # only some bytes are shown as stand-ins, the rest as text
    return [piece.translate(_NAMED) for piece in pieces]


def detect(pieces: Sequence[str], prompt: str, known: Sequence[bytes] = ()) -> Rendering:
    """What was done to a greedy text; `known`: the bytes of the tokens that it must consist of, where we know them."""
    text = "".join(pieces)
    shown = [piece for piece in pieces if INTERNAL & set(piece)]
    # One such letter may be a Maltese word of a model that is not ours.
    stand_ins = len(shown) > (0 if known else 1) and not INTERNAL & set(prompt)
    if stand_ins:
        return Rendering(stand_ins=True, separator=" " if " " in text else "")
    enough = len(_spelled(known[:ENOUGH], " "))
    spaced, said = _spelled(known, " "), text.rstrip()
    put_in = bool(known) and len(said) >= enough and spaced.startswith(said) and not _spelled(known).startswith(said)
    if put_in:
        return Rendering(separator=" ")
    bare = _spelled(known).replace(" ", "")
    gone = bool(known) and len(said) >= ENOUGH and " " not in said and bare.startswith(said) and bare != _spelled(known)
    return Rendering(lost=" " if gone else "")


def _spelled(known: Sequence[bytes], separator: str = "") -> str:
    return separator.join(token.decode("utf-8", "replace") for token in known)
