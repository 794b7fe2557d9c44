"""What every tokenizer offers the worker, whatever its backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class TokenizerError(ValueError):
    """The vocabulary cannot be used, or a string cannot be encoded; the message names the metadata key and the cure."""


class VocabularySource(Protocol):
    """The part of an opened GGUF file that tokenizers read."""

    @property
    def architecture(self) -> str:
        """`general.architecture`."""
        ...

    @property
    def name(self) -> str:
        """`general.name`."""
        ...

    @property
    def metadata(self) -> Mapping[str, object]:
        """Every metadata key of the file."""
        ...


class Tokenizer(ABC):
    """Text to token ids and back.

    `kind` is what /health reports (M0-W-1364); `vocab_size` counts the token list, which may be shorter or longer than
    the logit row; `eog_ids` end a generation; `model_max_context` is in tokens.
    """

    kind: Literal["gguf-bpe", "hf-json"]
    vocab_size: int
    bos_id: int | None
    eos_id: int | None
    eog_ids: frozenset[int]
    add_bos: bool
    model_max_context: int | None

    @abstractmethod
    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Token ids of `text`.

        Args:
            text: any string of Unicode scalar values.
            add_special: put the beginning- and end-of-sequence tokens around, where the model wants them.
            parse_special: read the spelling of a control token (`<|im_start|>`) as that token, not as text.

        Raises:
            TokenizerError: `text` holds a lone surrogate, or the vocabulary has no token for a part of it.
        """

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for in generated text; empty for control tokens. May split a character.

        Raises:
            IndexError: no such token.
        """

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of a token sequence; bytes that are no UTF-8 become U+FFFD.

        Raises:
            IndexError: no such token.
        """
        return b"".join(map(self.token_bytes, tokens)).decode("utf-8", errors="replace")


def reject_surrogates(text: str) -> None:
    """Refuse half characters, which no UTF-8 text can hold.

    Raises:
        TokenizerError: with the position of the first one.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start} of the text is the lone surrogate U+{ord(text[error.start]):04X}, "
            "which no UTF-8 text can hold; send well-formed Unicode"
        ) from None


def utf8(spelling: str) -> bytes:
    """A token's spelling as bytes: those of the file, where they are no UTF-8."""
    return spelling.encode("utf-8", "surrogateescape")
