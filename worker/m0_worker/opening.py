"""A model file and its tokenizer, opened: what cannot be served is refused before a device is asked for anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_worker.adapters import ModelError, refuse_architecture
from m0_worker.gguf import GgufFile
from m0_worker.tokenizers import Tokenizer, load_tokenizer, refuse_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_EMBEDDINGS = "token_embd.weight"


def open_model(path: Path, opened: Callable[[GgufFile], None] | None = None) -> tuple[GgufFile, Tokenizer]:
    """Open a model file and its tokenizer.

    An architecture, a kind of tokenizer, a pre-tokenizer or a storage type that is not supported is said before
    anything else is looked at: a damaged file of a model that cannot be served anyway is not worth a download.

    Args:
        path: of the model file.
        opened: called with the open file, whose header is sound, before the tokenizer is made.

    Raises:
        GgufError, ModelError: the file cannot be read, or holds no model that can be served.
        TokenizerError: the vocabulary cannot be used.
    """

    def refuse(metadata: Mapping[str, object]) -> None:
        architecture = metadata.get("general.architecture")
        if isinstance(architecture, str):
            refuse_architecture(architecture, str(path))
            refuse_tokenizer(metadata, architecture, path.parent)

    gguf = GgufFile.open(path, refuse)
    try:
        if opened is not None:
            opened(gguf)
        tokenizer = load_tokenizer(gguf, path.parent)
        _refuse_tokens_without_rows(gguf, tokenizer)
    except BaseException:
        gguf.close()
        raise
    return gguf, tokenizer


def _refuse_tokens_without_rows(gguf: GgufFile, tokenizer: Tokenizer) -> None:
    """A token without an embedding could be asked for and not be answered; rows without a token do no harm."""
    embeddings = gguf.tensors.get(_EMBEDDINGS)
    if embeddings is not None and embeddings.shape[0] < tokenizer.vocab_size:
        what = f"tokenizer.ggml.tokens holds {tokenizer.vocab_size} tokens, {_EMBEDDINGS} {embeddings.shape[0]} rows"
        cure = "convert the model again, or take the tokenizer that belongs to it"
        raise ModelError("too-many-tokens", what, where=str(gguf.path), cure=cure)
