"""A SentencePiece vocabulary under construction, with the interface of `m0_models.bytelevel.Vocabulary`.

Ids: <unk>, <s>, </s>, the 256 bytes, the printable ASCII characters, then whatever is added. Text is cut by merging
the pair with the best score, so scores fall in the order of merging (Kudo & Richardson 2018, as llama files carry it).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from m0_models.bytelevel import CONTROL, NORMAL, Unsayable, Vocabulary

if TYPE_CHECKING:
    from collections.abc import Collection

SPACE_MARK: Final = "\u2581"
_UNKNOWN: Final = 2
_BYTE: Final = 6
_HEAD: Final = ("<unk>", "<s>", "</s>")
_END: Final = 2
_CHARACTERS: Final = [chr(value) for value in range(0x20, 0x7F)]
_UNREACHED: Final = -1e6
"""Score of what no merge produces: lower than any merge's."""


def spell(text: str) -> str:
    """Text as a token string: a space is the mark."""
    return text.replace(" ", SPACE_MARK)


@dataclass(slots=True)
class SentencePiece(Vocabulary):
    """A vocabulary of pieces; text that is no piece falls back to bytes."""

    pre: str = "default"
    text: list[bytes] = field(
        default_factory=lambda: [
            *[b""] * len(_HEAD), *(bytes([value]) for value in range(256)), *(c.encode() for c in _CHARACTERS)
        ]
    )  # fmt: skip
    strings: list[str] = field(
        default_factory=lambda: [
            *_HEAD, *(f"<0x{value:02X}>" for value in range(256)), *(spell(c) for c in _CHARACTERS)
        ]
    )  # fmt: skip
    kinds: list[int] = field(
        default_factory=lambda: [_UNKNOWN, CONTROL, CONTROL, *[_BYTE] * 256, *[NORMAL] * len(_CHARACTERS)]
    )
    ranks: list[int] = field(default_factory=list)
    """Tokens in the order in which pairs are merged."""

    def byte(self, value: int) -> int:
        """The token of a byte: its character where that is printable."""
        return len(_HEAD) + 256 + value - 0x20 if 0x20 <= value < 0x7F else len(_HEAD) + value

    def add(self, text: bytes) -> int:
        """Add a piece that no merge produces; returns its id.

        Raises:
            Unsayable: it is no text, and a piece is.
        """
        try:
            return self._append(spell(text.decode()), text, NORMAL)
        except UnicodeDecodeError as error:
            raise Unsayable(f"{text!r} is no piece of text") from error

    def merge(self, left: bytes, right: bytes) -> int:
        """Add the piece ``left + right`` and let it be merged; parts of characters need no merge, and -1 comes back."""
        try:
            self.ranks.append(self.add(left + right))
        except Unsayable:
            return -1
        return self.ranks[-1]

    def spelled(self, piece: bytes, taken: Collection[int]) -> list[int]:
        """One piece, or the bytes of what is no text; see the base class."""
        if len(piece) == 1:
            return [self.byte(piece[0])]
        try:
            return [self.add(piece)]
        except Unsayable:
            tokens = [self.byte(value) for value in piece]
        if len(set(tokens)) < len(tokens) or set(tokens) & set(taken):
            raise Unsayable(f"{piece!r} needs a byte twice")
        return tokens

    def end(self) -> int:
        """The end of sequence, which every such vocabulary has."""
        return _END

    def metadata(self, eos: int, bos: int | None = None) -> dict[str, object]:
        """The tokenizer.ggml keys; nothing is put before a text, so that a prompt is the tokens of its characters."""
        scores = [0.0 if kind != NORMAL else _UNREACHED for kind in self.kinds]
        for rank, token in enumerate(self.ranks):
            scores[token] = -float(rank)
        return {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": self.pre,
            "tokenizer.ggml.tokens": self.strings,
            "tokenizer.ggml.scores": scores,
            "tokenizer.ggml.token_type": self.kinds,
            "tokenizer.ggml.bos_token_id": 1 if bos is None else bos,
            "tokenizer.ggml.eos_token_id": eos,
            "tokenizer.ggml.unknown_token_id": 0,
            "tokenizer.ggml.add_bos_token": False,
            "tokenizer.ggml.add_eos_token": False,
            "tokenizer.ggml.add_space_prefix": False,
        }
