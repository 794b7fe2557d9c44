"""GPT-2's reversible alphabet: every byte has one printable character, so that vocabularies are plain text.

Bytes that print as themselves in Latin-1 keep their character; the other 68 take U+0100 onwards, in byte order: a space
is U+0120, a line feed U+010A. (Radford et al. 2019, the `bytes_to_unicode` table of the released encoder.)
"""

from __future__ import annotations

from typing import Final

from m0_worker.tokenizers.base import utf8

_PRINTABLE: Final = frozenset((*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))
_OTHERS: Final = tuple(byte for byte in range(256) if byte not in _PRINTABLE)

CHARACTER_OF_BYTE: Final = {byte: byte if byte in _PRINTABLE else 0x100 + _OTHERS.index(byte) for byte in range(256)}
BYTE_OF_CHARACTER: Final = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}


def to_alphabet(text: str) -> str:
    """Spell a string's UTF-8 bytes in the alphabet."""
    return text.encode("utf-8").decode("latin-1").translate(CHARACTER_OF_BYTE)


def from_alphabet(spelling: str) -> bytes:
    """The bytes that a spelling stands for; a character outside the alphabet stands for its own UTF-8 bytes."""
    try:
        return bytes(map(BYTE_OF_CHARACTER.__getitem__, map(ord, spelling)))
    except KeyError:
        return b"".join(
            bytes((BYTE_OF_CHARACTER[code],)) if (code := ord(character)) in BYTE_OF_CHARACTER else utf8(character)
            for character in spelling
        )
