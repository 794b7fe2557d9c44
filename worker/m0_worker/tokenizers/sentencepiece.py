"""SentencePiece BPE from a GGUF file's tokens and scores (`tokenizer.ggml.model = "llama"`).

White space is written U+2581, the whole text is one piece, and the pair of neighbours that forms the token with the
highest score is joined until none is left; characters that are no token become `<0xXX>` byte tokens.
(Kudo and Richardson 2018; Llama 2 and Phi-3 files.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from m0_worker.tokenizers.base import TokenizerError, utf8
from m0_worker.tokenizers.gguf_tokenizer import GgufTokenizer
from m0_worker.tokenizers.merging import merge
from m0_worker.tokenizers.vocabulary import number_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from m0_worker.tokenizers.base import VocabularySource

SPACE_MARK: Final = "\N{LOWER ONE EIGHTH BLOCK}"


class SentencePiece(GgufTokenizer):
    """SentencePiece BPE.

    Raises:
        TokenizerError: scores are missing or too few.
    """

    def __init__(self, source: VocabularySource) -> None:
        defaults = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
        super().__init__(source, defaults=defaults, add_bos=True)
        self._space_prefix = self.vocabulary.flag("add_space_prefix", True)
        scores = number_list(source.metadata, "tokenizer.ggml.scores", self.vocab_size)
        if scores is None:
            raise TokenizerError("tokenizer.ggml.scores is missing; a SentencePiece vocabulary needs one per token")
        self._scores = scores

    def _encode_text(self, text: str, after_special: bool) -> Iterable[int]:
        if self._space_prefix and after_special:
            text = f" {text}"
        tokens: list[int] = []
        ids = self.vocabulary.ids
        for symbol in merge(list(text.replace(" ", SPACE_MARK)), self._negated_score):
            token = ids.get(symbol)
            if token is None:
                tokens.extend(map(self._byte_token, symbol.encode()))
            else:
                tokens.append(token)
        return tokens

    def _negated_score(self, left: str, right: str) -> float | None:
        token = self.vocabulary.ids.get(left + right)
        return None if token is None else -self._scores[token]

    def _byte_token(self, byte: int) -> int:
        ids = self.vocabulary.ids
        for spelling in (f"<0x{byte:02X}>", chr(byte) if byte < 0x80 else ""):
            if spelling in ids:
                return ids[spelling]
        if self.vocabulary.unknown is None:
            raise TokenizerError(f"the vocabulary has neither a token for byte 0x{byte:02X} nor an unknown token")
        return self.vocabulary.unknown

    def _text_bytes(self, spelling: str) -> bytes:
        return utf8(spelling.replace(SPACE_MARK, " "))

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of a whole sequence: as `Tokenizer.decode`, without the space put before the first word."""
        data = b"".join(map(self.token_bytes, tokens))
        if self._space_prefix:
            data = data.removeprefix(b" ")
        return data.decode("utf-8", errors="replace")
