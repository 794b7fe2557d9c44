"""What the two tokenizers read from a GGUF file have in common: special tokens, and the order of fragments."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

from m0_worker.tokenizers.base import Tokenizer, TokenizerError, reject_surrogates, utf8
from m0_worker.tokenizers.end_rules import TokenType
from m0_worker.tokenizers.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from m0_worker.tokenizers.base import VocabularySource

_SILENT = frozenset((TokenType.CONTROL, TokenType.UNKNOWN, TokenType.UNUSED, TokenType.UNDEFINED))


class GgufTokenizer(Tokenizer):
    """A tokenizer whose vocabulary is the GGUF file's own (backend gguf-bpe of M0-W-1362)."""

    kind: Literal["gguf-bpe", "hf-json"] = "gguf-bpe"

    def __init__(self, source: VocabularySource, *, defaults: Mapping[str, int], add_bos: bool) -> None:
        vocabulary = Vocabulary(source.metadata, defaults=defaults, model_name=source.name)
        self.vocabulary = vocabulary
        self.vocab_size = len(vocabulary)
        self.bos_id, self.eos_id, self.eog_ids = vocabulary.bos, vocabulary.eos, vocabulary.eog
        self.add_bos = vocabulary.flag("add_bos_token", add_bos)
        self._prefix = _required("bos", self.bos_id) if self.add_bos else []
        self._suffix = _required("eos", self.eos_id) if vocabulary.flag("add_eos_token", False) else []
        context = source.metadata.get(f"{source.architecture}.context_length")
        self.model_max_context = context if isinstance(context, int) else None

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """See `Tokenizer.encode`."""
        reject_surrogates(text)
        tokens = list(self._prefix) if add_special else []
        after_special = True
        for fragment in self.vocabulary.partition(text, parse_special=parse_special):
            if isinstance(fragment, int):
                tokens.append(fragment)
                after_special = True
            else:
                tokens.extend(self._encode_text(fragment, after_special))
                after_special = False
        if add_special:
            tokens.extend(self._suffix)
        return tokens

    def token_bytes(self, token: int) -> bytes:
        """See `Tokenizer.token_bytes`."""
        kind = self.vocabulary.type_of(token)
        spelling = self.vocabulary.spellings[token]
        if kind is TokenType.NORMAL:
            return self._text_bytes(spelling)
        if kind in _SILENT:
            return b""
        if kind is TokenType.BYTE:
            return byte_of(spelling)
        return utf8(spelling)

    @abstractmethod
    def _encode_text(self, text: str, after_special: bool) -> Iterable[int]:
        """Ids of a string without special tokens; `after_special` tells whether it begins the text or follows one."""

    @abstractmethod
    def _text_bytes(self, spelling: str) -> bytes:
        """The bytes that an ordinary token stands for."""


def byte_of(spelling: str) -> bytes:
    """The byte of a `<0xXX>` token.

    Raises:
        TokenizerError: the spelling has another form.
    """
    try:
        return bytes.fromhex(spelling.removeprefix("<0x").removesuffix(">"))
    except ValueError:
        raise TokenizerError(f"byte token {spelling!r} is not spelt <0xXX>") from None


def _required(name: str, token: int | None) -> list[int]:
    if token is None:
        raise TokenizerError(
            f"the vocabulary asks for a token at each text's {'begin' if name == 'bos' else 'end'}, "
            f"but tokenizer.ggml.{name}_token_id is missing"
        )
    return [token]
