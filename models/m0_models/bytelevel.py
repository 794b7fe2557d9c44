"""Byte-level vocabularies: the 256 printable stand-ins for bytes that GPT-2's byte BPE writes its tokens in.

Source: Radford et al. 2019 (GPT-2), encoder.py; the table is part of every byte-BPE tokenizer file since.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

NORMAL: Final = 1
CONTROL: Final = 3
USER_DEFINED: Final = 4


@cache
def byte_characters() -> tuple[str, ...]:
    """The stand-in character of each byte value 0..255: itself where printable, else U+0100 upwards."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    shifted = iter(range(0x100, 0x200))
    return tuple(chr(b) if b in printable else chr(next(shifted)) for b in range(256))


def spell(text: bytes) -> str:
    """Bytes in the stand-in alphabet, as a token string."""
    table = byte_characters()
    return "".join(table[b] for b in text)


class Unsayable(ValueError):  # noqa: N818 - what a vocabulary cannot do, not a failure
    """No tokens of a vocabulary say a text."""


_CONSONANTS: Final = "bdfghjklmnprstvwz"
_VOWELS: Final = "aeiou"


def words(count: int) -> list[bytes]:
    """``count`` (at most 7,225) different four-letter ASCII words with a leading space, in a scrambled order."""
    syllables = [c + v for c in _CONSONANTS for v in _VOWELS]
    total = len(syllables) ** 2
    return [f" {syllables[k // 85]}{syllables[k % 85]}".encode() for k in (i * 3571 % total for i in range(count))]


@dataclass(slots=True)
class Vocabulary:
    """A byte-BPE vocabulary under construction; ids 0..255 are the bytes themselves, in order.

    ``text[id]`` are the bytes a token stands for in generated text, b"" for control tokens.
    """

    pre: str = "qwen2"
    text: list[bytes] = field(default_factory=lambda: [bytes([b]) for b in range(256)])
    strings: list[str] = field(default_factory=lambda: list(byte_characters()))
    kinds: list[int] = field(default_factory=lambda: [NORMAL] * 256)
    merges: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.strings)

    def add(self, text: bytes) -> int:
        """Add a normal token that no merge produces; returns its id."""
        return self._append(spell(text), text, NORMAL)

    def byte(self, value: int) -> int:
        """The token of a single byte."""
        return value

    def endings(self, character: str) -> list[int]:
        """Tokens that a prompt can end in whose last character is this single byte."""
        return [self.byte(ord(character))]

    def spelled(self, piece: bytes, taken: Collection[int]) -> list[int]:  # noqa: ARG002 - for vocabularies that add none
        """Tokens that say ``piece``, none of them in ``taken``: here one of its own.

        Raises:
            Unsayable: it cannot be said with what is left.
        """
        return [self.byte(piece[0])] if len(piece) == 1 else [self.add(piece)]

    def words(self, count: int, taken: Collection[int]) -> list[int]:
        """``count`` tokens that are words with a leading space; each is a token wherever it stands in a prompt."""
        return [token for word in words(count) for token in self.spelled(word, taken)]

    def end(self) -> int:
        """The end of sequence."""
        return self.control("<|endoftext|>")

    def merge(self, left: bytes, right: bytes) -> int:
        """Add the token ``left + right`` and the merge that produces it; both parts must exist."""
        self.merges.append(f"{spell(left)} {spell(right)}")
        return self.add(left + right)

    def control(self, string: str) -> int:
        """Add a control token such as an end of sequence: matched in prompts, never text."""
        return self._append(string, b"", CONTROL)

    def user_defined(self, string: str) -> int:
        """Add a user-defined token: matched whole in prompts, and text when generated."""
        return self._append(string, string.encode(), USER_DEFINED)

    def _append(self, string: str, text: bytes, kind: int) -> int:
        if string in self.strings:
            raise ValueError(f"token {string!r} exists already")
        self.strings.append(string)
        self.text.append(text)
        self.kinds.append(kind)
        return len(self.strings) - 1

    def hexed(self, ids: Sequence[int]) -> list[str]:
        """What tokens stand for in generated text, as JSON can hold it: bytes in hexadecimal."""
        return [self.text[i].hex() for i in ids]

    def metadata(self, eos: int, bos: int | None = None) -> dict[str, object]:
        """The tokenizer.ggml keys."""
        return {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": self.pre,
            "tokenizer.ggml.tokens": self.strings,
            "tokenizer.ggml.token_type": self.kinds,
            "tokenizer.ggml.merges": self.merges,
            "tokenizer.ggml.bos_token_id": eos if bos is None else bos,
            "tokenizer.ggml.eos_token_id": eos,
            "tokenizer.ggml.add_bos_token": False,
        }

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text`` by the merges alone, in order of rank.

        Exact only where no merge crosses a pre-tokenizer border, as in the vocabularies of this package; control and
        user-defined tokens are not looked for.
        """
        parts = [bytes([b]) for b in text.encode()]
        ids = {t: i for i, t in enumerate(self.text) if self.kinds[i] == NORMAL}
        for merge in self.merges:
            left, right = (self._bytes(side) for side in merge.split(" "))
            parts = _join(parts, left, right)
        return [ids[p] for p in parts]

    @staticmethod
    def _bytes(spelled: str) -> bytes:
        table = byte_characters()
        return bytes(table.index(c) for c in spelled)


def _join(parts: Sequence[bytes], left: bytes, right: bytes) -> list[bytes]:
    out: list[bytes] = []
    for part in parts:
        if out and out[-1] == left and part == right:
            out[-1] = left + right
        else:
            out.append(part)
    return out
