"""Tokenizers: byte-level BPE and SentencePiece from the GGUF file, tokenizer.json through Hugging Face tokenizers.

`load_tokenizer` chooses by the file's metadata (M0-W-1360). No backend starts a process or opens a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from m0_worker.tokenizers.base import Tokenizer, TokenizerError, VocabularySource
from m0_worker.tokenizers.byte_bpe import ByteBpe
from m0_worker.tokenizers.sentencepiece import SentencePiece

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Tokenizer", "TokenizerError", "VocabularySource", "load_tokenizer"]

_GGUF_MODELS: Final = {"gpt2": ByteBpe, "llama": SentencePiece}
_EMBEDDED: Final = "tokenizer.huggingface.json"
# Files that leave the vocabulary to tokenizer.json say so with one of these, or have no such key.
_WITHOUT_VOCABULARY: Final = ("hf-json", "none", "no_vocab", None)


def load_tokenizer(gguf: VocabularySource, model_dir: Path) -> Tokenizer:
    """The tokenizer of a model.

    The backend is hf-json where the GGUF file holds no vocabulary of its own (`tokenizer.ggml.model` is missing,
    `none` or `hf-json`), and for gpt-oss where `tokenizer.json` lies beside it; otherwise gguf-bpe.

    Args:
        gguf: the opened model file.
        model_dir: its directory.

    Raises:
        TokenizerError: no known tokenizer, or its data is missing, broken or of an unknown kind.
    """
    model = gguf.metadata.get("tokenizer.ggml.model")
    path = model_dir / "tokenizer.json"
    embedded = gguf.metadata.get(_EMBEDDED)
    text = embedded if isinstance(embedded, str) else None
    found = text is not None or path.is_file()
    if found and (model in _WITHOUT_VOCABULARY or gguf.architecture == "gpt-oss"):
        from m0_worker.tokenizers.hf_json import HfJson  # noqa: PLC0415  (the library costs start-up time)

        return HfJson(gguf, path, text)
    if model in _WITHOUT_VOCABULARY:
        raise TokenizerError(f"the GGUF file holds no vocabulary, and {path} does not exist; put tokenizer.json there")
    if isinstance(model, str) and model in _GGUF_MODELS:
        return _GGUF_MODELS[model](gguf)
    raise TokenizerError(
        f"tokenizer.ggml.model = {model!r} is an unknown kind of tokenizer; supported: {', '.join(_GGUF_MODELS)}, "
        "hf-json"
    )
