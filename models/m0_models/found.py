"""The vocabulary of a model file that exists, with the interface of `m0_models.bytelevel.Vocabulary`; nothing is added.

Probes say what they must say with the tokens that are there. Words with a leading space are tokens wherever they stand
in a prompt, for every pre-tokenizer cuts before a space: they are the letters of probes that tell tokens apart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from m0_models.bytelevel import NORMAL, Unsayable, Vocabulary, byte_characters

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from m0_models.scan import Scan

_BYTE: Final = 6
_SPACE_MARK: Final = "\u2581"
_WORDS: Final = tuple(re.compile(rb" [a-z]{%d}" % length) for length in (4, 5, 3, 6))
"""Words worth choosing, shorter ones of equal use later."""


class Found(Vocabulary):
    """A file's vocabulary.

    Raises:
        ValueError: the file has none that can be read, or names no end of sequence.
    """

    def __init__(self, scan: Scan) -> None:
        keys = {key: scan.value(key) for key in scan.keys if key.startswith("tokenizer.")}
        keys.pop("tokenizer.chat_template", None)
        strings, eos = keys.get("tokenizer.ggml.tokens"), keys.get("tokenizer.ggml.eos_token_id")
        if not isinstance(strings, list) or not isinstance(eos, int):
            raise ValueError(f"{scan.path} has no tokenizer.ggml.tokens, or no eos_token_id: give another file")  # noqa: TRY004 - the file's fault, not the caller's
        kinds = keys.get("tokenizer.ggml.token_type")
        super().__init__(
            pre=str(keys.get("tokenizer.ggml.pre", "default")),
            text=[],
            strings=strings,
            kinds=list(kinds) if isinstance(kinds, list) else [NORMAL] * len(strings),
        )
        self.keys: Mapping[str, object] = keys
        self.eos = eos
        self.beside: Path | None = (
            scan.path.with_name("tokenizer.json") if scan.path.with_name("tokenizer.json").is_file() else None
        )
        spaced = keys.get("tokenizer.ggml.model") == "llama"
        self.text = _texts(strings, self.kinds, spaced=spaced)
        self._ids: dict[bytes, int] = {}
        for number in (n for kind in (NORMAL, _BYTE) for n, k in enumerate(self.kinds) if k == kind):
            if self.text[number]:
                self._ids.setdefault(self.text[number], number)

    def byte(self, value: int) -> int:
        """The token of a single byte."""
        if (token := self._ids.get(bytes([value]))) is None:
            raise Unsayable(f"no token is the byte {value:#04x}")
        return token

    def endings(self, character: str) -> list[int]:
        """The character's token, and the one with a space before it, which some vocabularies put there."""
        found = [self._ids.get(text) for text in (character.encode(), f" {character}".encode())]
        return [token for token in found if token is not None]

    def add(self, text: bytes) -> int:
        """The token that is there."""
        if (token := self._ids.get(text)) is None:
            raise Unsayable(f"no token is {text!r}")
        return token

    def merge(self, left: bytes, right: bytes) -> int:
        """Nothing is added; -1 where the file has no such token."""
        return self._ids.get(left + right, -1)

    def control(self, string: str) -> int:
        """Nothing is added: the end of sequence stands for every control token."""
        return self.strings.index(string) if string in self.strings else self.eos

    def spelled(self, piece: bytes, taken: Collection[int]) -> list[int]:
        """The longest tokens that are there, from left to right; see the base class."""
        tokens: list[int] = []
        at = 0
        while at < len(piece):
            for length in range(len(piece) - at, 0, -1):
                token = self._ids.get(piece[at : at + length])
                if token is not None and token not in taken and token not in tokens:
                    tokens.append(token)
                    at += length
                    break
            else:
                raise Unsayable(f"{piece!r} cannot be said with tokens that nothing else needs")
        return tokens

    def words(self, count: int, taken: Collection[int]) -> list[int]:
        """Words of four, five, three and six letters, in the order of their ids."""
        known = [
            token
            for form in _WORDS
            for text, token in self._ids.items()
            if token not in taken and self.kinds[token] == NORMAL and form.fullmatch(text)
        ]
        if len(known) < count:
            raise Unsayable(f"{count} words are needed, the vocabulary has {len(known)}")
        return known[:count]

    def end(self) -> int:
        """The end of sequence that the file names."""
        return self.eos

    def metadata(self, eos: int, bos: int | None = None) -> dict[str, object]:  # noqa: ARG002 - the file's own
        """The file's own tokenizer keys, but nothing is put before a prompt or behind it."""
        quiet = {f"tokenizer.ggml.add_{end}_token": False for end in ("bos", "eos")}
        return {**self.keys, **quiet}


def _texts(strings: list[str], kinds: list[int], *, spaced: bool) -> list[bytes]:
    """What each token stands for in generated text."""
    if spaced:
        return [
            bytes([int(string[3:5], 16)]) if kind == _BYTE else string.replace(_SPACE_MARK, " ").encode()
            if kind == NORMAL else b""
            for string, kind in zip(strings, kinds, strict=True)
        ]  # fmt: skip
    table = {character: value for value, character in enumerate(byte_characters())}
    texts: list[bytes] = []
    for string, kind in zip(strings, kinds, strict=True):
        try:
            texts.append(bytes(table[character] for character in string) if kind == NORMAL else b"")
        except KeyError:  # ordinary text that is not spelled in the alphabet of bytes: an added token
            texts.append(b"")
    return texts
