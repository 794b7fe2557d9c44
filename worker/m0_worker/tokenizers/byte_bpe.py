"""Byte-level byte-pair encoding from a GGUF file's tokens and merges (`tokenizer.ggml.model = "gpt2"`).

A string is cut into pieces by the pre-tokenizer, each piece is spelt in the byte alphabet, and the pair of neighbours
with the lowest merge rank is joined until none is left. (Sennrich et al. 2016; Radford et al. 2019; M0-W-1362.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from m0_worker.tokenizers.base import TokenizerError
from m0_worker.tokenizers.byte_level import from_alphabet, to_alphabet
from m0_worker.tokenizers.gguf_tokenizer import GgufTokenizer
from m0_worker.tokenizers.merging import merge
from m0_worker.tokenizers.pretokenizers import Splitter, pre_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from m0_worker.tokenizers.base import VocabularySource

# Pieces repeat: most of a string is a few thousand words. Longer pieces are rarely met twice.
_CACHE_ENTRIES: Final = 16_384
_CACHE_PIECE: Final = 64


class ByteBpe(GgufTokenizer):
    """Byte-level BPE.

    Raises:
        TokenizerError: merges are missing, or the pre-tokenizer is unknown.
    """

    def __init__(self, source: VocabularySource) -> None:
        rule = pre_tokenizer(pre_tokenizer_name(source.metadata))
        super().__init__(source, defaults={}, add_bos=rule.add_bos)
        self._splitter = Splitter(rule.patterns)
        self._whole_pieces = rule.ignore_merges
        self._ranks = _ranks(source)
        self._cache: dict[str, tuple[int, ...]] = {}

    def _encode_text(self, text: str, after_special: bool) -> Iterable[int]:  # noqa: ARG002  (SentencePiece needs it)
        tokens: list[int] = []
        cache = self._cache
        for piece in self._splitter.split(text):
            known = cache.get(piece)
            if known is None:
                known = self._encode_piece(to_alphabet(piece))
                if len(piece) <= _CACHE_PIECE:
                    if len(cache) >= _CACHE_ENTRIES:
                        cache.clear()
                    cache[piece] = known
            tokens.extend(known)
        return tokens

    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        ids = self.vocabulary.ids
        if self._whole_pieces and piece in ids:
            return (ids[piece],)
        tokens: list[int] = []
        for symbol in merge(list(piece), self._rank):
            if symbol in ids:
                tokens.append(ids[symbol])
            else:  # joined by a merge whose result is no token, or a byte the vocabulary lacks
                tokens.extend(ids[character] for character in symbol if character.isascii() and character in ids)
        return tuple(tokens)

    def _rank(self, left: str, right: str) -> int | None:
        return self._ranks.get(f"{left} {right}")

    def _text_bytes(self, spelling: str) -> bytes:
        return from_alphabet(spelling)


def pre_tokenizer_name(metadata: Mapping[str, object]) -> str:
    """What `tokenizer.ggml.pre` says, or what its absence means.

    Raises:
        TokenizerError: no string.
    """
    name = metadata.get("tokenizer.ggml.pre", "default")
    if not isinstance(name, str):
        raise TokenizerError(f"tokenizer.ggml.pre is {name!r:.60}, not a string")
    return name


def _ranks(source: VocabularySource) -> dict[str, int]:
    """Rank of each merge, keyed by its line "left right": splitting 150,000 lines would double start-up time."""
    merges = source.metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list) or (merges and not isinstance(merges[0], str)):
        raise TokenizerError("tokenizer.ggml.merges is missing or no array of strings; byte-level BPE needs it")
    # Backwards, so that the first of two equal lines keeps its rank.
    return dict(zip(reversed(merges), range(len(merges) - 1, -1, -1), strict=True))
