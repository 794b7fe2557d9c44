"""A tokenizer.json file through the Hugging Face tokenizers library (backend hf-json, M0-W-1361).

Importing this module imports that library: only `load_tokenizer` does, and only for a model that needs it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

import tokenizers

from m0_worker.tokenizers.base import Tokenizer, TokenizerError, reject_surrogates
from m0_worker.tokenizers.byte_level import from_alphabet
from m0_worker.tokenizers.end_rules import NAMED_KEYS, RULED_SPELLINGS, TokenType, end_rules
from m0_worker.tokenizers.gguf_tokenizer import byte_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from m0_worker.tokenizers.base import VocabularySource

_SPACE_MARK: Final = "\u2581"
# What a model without tokens for it could not be asked for.
_TRIAL: Final = "A line.\n\u00e9\u4e2d\U0001f600"
# Comparing every spelling of a 200,000-token vocabulary with the GGUF file's would cost more than loading it.
_SAMPLE_STRIDE: Final = 97


class HfJson(Tokenizer):
    """A tokenizer.json file.

    Args:
        source: the model's metadata; the ids it names win over the guesses from spellings.
        path: the file; `tokenizer_config.json` beside it is read where there is one.
        text: its content, where the model file itself carries it.

    Raises:
        TokenizerError: unreadable, of another model than the GGUF file, or with an unknown decoder.
    """

    kind: Literal["gguf-bpe", "hf-json"] = "hf-json"

    def __init__(self, source: VocabularySource, path: Path, text: str | None = None) -> None:
        with _guarded(f"{path} is no tokenizer.json that can be used"):
            self._open(source, path, text)

    def _open(self, source: VocabularySource, path: Path, text: str | None) -> None:
        inner = tokenizers.Tokenizer.from_file(str(path)) if text is None else tokenizers.Tokenizer.from_str(text)
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        self._byte_level = _is_byte_level(inner, path)
        self.vocab_size = inner.get_vocab_size(with_added_tokens=True)
        self._check_same_model(source, path)
        config = _config(path)
        added = inner.get_added_tokens_decoder()
        ids = {token.content: number for number, token in added.items()}
        ids.update((s, number) for s in RULED_SPELLINGS if (number := inner.token_to_id(s)) is not None)
        named = {key: self._named(source, key) for key in ("bos_token_id", "eos_token_id", *NAMED_KEYS)}
        self.bos_id = _first(named["bos_token_id"], ids.get(_spelling(config, "bos_token")))
        self.eos_id = _first(named["eos_token_id"], ids.get(_spelling(config, "eos_token")))
        self.eog_ids, retyped = end_rules(ids, {**named, "eos_token_id": self.eos_id})
        self.add_bos = inner.encode("").ids[:1] == [self.bos_id]
        inner.encode(_TRIAL)
        self.model_max_context = _max_context(source, config)
        # Added tokens are shown as spelt, or not at all; the others go through the decoder's rule.
        types = {number: _type(token) for number, token in added.items()} | retyped
        self._shown = {
            number: b"" if kind is TokenType.CONTROL else (inner.id_to_token(number) or "").encode()
            for number, kind in types.items()
        }

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """See `Tokenizer.encode`."""
        reject_surrogates(text)
        with _guarded("tokenizer.json has no tokens for this text"):
            self._inner.encode_special_tokens = not parse_special
            ids: list[int] = self._inner.encode(text, add_special_tokens=add_special).ids
        return ids

    def token_bytes(self, token: int) -> bytes:
        """See `Tokenizer.token_bytes`."""
        shown = self._shown.get(token)
        if shown is not None:
            return shown
        spelling = self._inner.id_to_token(token) if token >= 0 else None
        if spelling is None:
            raise IndexError(f"token {token} is outside the vocabulary of {self.vocab_size} tokens")
        if self._byte_level:
            return from_alphabet(spelling)
        if len(spelling) == len("<0xXX>") and spelling.startswith("<0x"):
            return byte_of(spelling)
        return str(spelling).replace(_SPACE_MARK, " ").encode()

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of a whole sequence: without the space that SentencePiece puts before the first word."""
        data = b"".join(map(self.token_bytes, tokens))
        return (data if self._byte_level else data.removeprefix(b" ")).decode("utf-8", errors="replace")

    def _named(self, source: VocabularySource, key: str) -> int | None:
        value = source.metadata.get(f"tokenizer.ggml.{key}")
        if value is None:
            return None
        if not isinstance(value, int) or self._inner.id_to_token(value) is None:
            raise TokenizerError(f"tokenizer.ggml.{key} = {value!r} is no token of the model's tokenizer.json")
        return value

    def _check_same_model(self, source: VocabularySource, path: Path) -> None:
        spellings = source.metadata.get("tokenizer.ggml.tokens")
        if not isinstance(spellings, list):
            return
        count = min(len(spellings), self.vocab_size)
        for token in (*range(0, count, _SAMPLE_STRIDE), count - 1):
            other = self._inner.id_to_token(token)
            if other is not None and other != spellings[token]:
                raise TokenizerError(
                    f"{path} belongs to another model: token {token} is {other!r} there, and {spellings[token]!r} in "
                    "the GGUF file; put the model's own tokenizer.json beside it, or remove this one"
                )


@contextmanager
def _guarded(what: str) -> Iterator[None]:
    """The library raises bare Exception for every kind of trouble, and panics of its Rust code are not even that."""
    try:
        yield
    except TokenizerError:
        raise
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise TokenizerError(f"{what}: {error}") from error
        raise


def _type(token: tokenizers.AddedToken) -> TokenType:
    return TokenType.CONTROL if token.special else TokenType.USER_DEFINED


def _is_byte_level(inner: tokenizers.Tokenizer, path: Path) -> bool:
    """Whether tokens are spelt in the byte alphabet; otherwise they are SentencePiece's."""
    state = json.loads(inner.decoder.__getstate__()) if inner.decoder is not None else {}
    kinds = {part.get("type") for part in (state, *state.get("decoders", ()))}
    if "ByteLevel" in kinds:
        return True
    if kinds & {"ByteFallback", "Metaspace"}:
        return False
    raise TokenizerError(
        f"{path}: decoder {state.get('type')!r} is unknown; supported: ByteLevel, ByteFallback, Metaspace"
    )


def _config(path: Path) -> dict[str, object]:
    beside = path.with_name("tokenizer_config.json")
    if not beside.is_file():  # a FIFO of that name would wait for somebody to write into it
        return {}
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerError(f"{beside} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def _spelling(config: dict[str, object], key: str) -> str:
    value = config.get(key)
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _max_context(source: VocabularySource, config: dict[str, object]) -> int | None:
    """In tokens: the model file's context length, else the tokenizer's own limit (a huge number means none)."""
    for value in (source.metadata.get(f"{source.architecture}.context_length"), config.get("model_max_length")):
        if isinstance(value, int) and 0 < value < 2**31:
            return value
    return None


def _first(*candidates: int | None) -> int | None:
    return next((candidate for candidate in candidates if candidate is not None), None)
