"""Tokenizers: byte-level BPE and SentencePiece from the GGUF file, tokenizer.json through Hugging Face tokenizers.

`load_tokenizer` chooses by the file's metadata (M0-W-1360). No backend starts a process or opens a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from m0_worker.tokenizers.base import Tokenizer, TokenizerError, VocabularySource
from m0_worker.tokenizers.byte_bpe import ByteBpe, pre_tokenizer_name
from m0_worker.tokenizers.pretokenizers import pre_tokenizer
from m0_worker.tokenizers.sentencepiece import SentencePiece

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Tokenizer", "TokenizerError", "VocabularySource", "load_tokenizer", "refuse_tokenizer"]

_GGUF_MODELS: Final[dict[str, type[ByteBpe | SentencePiece]]] = {"gpt2": ByteBpe, "llama": SentencePiece}
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
    path = model_dir / "tokenizer.json"
    embedded = gguf.metadata.get(_EMBEDDED)
    text = embedded if isinstance(embedded, str) else None
    backend = _backend(gguf.metadata, gguf.architecture, path)
    if backend is not None:
        return backend(gguf)
    from m0_worker.tokenizers.hf_json import HfJson  # noqa: PLC0415  (the library costs start-up time)

    return HfJson(gguf, path, text)


def refuse_tokenizer(metadata: Mapping[str, object], architecture: str, model_dir: Path) -> None:
    """Refuse a kind of tokenizer, or a pre-tokenizer, that is not supported; nothing else is looked at.

    Raises:
        TokenizerError: not supported; names what is.
    """
    if _backend(metadata, architecture, model_dir / "tokenizer.json") is ByteBpe:
        pre_tokenizer(pre_tokenizer_name(metadata))


def _backend(metadata: Mapping[str, object], architecture: str, path: Path) -> type[ByteBpe | SentencePiece] | None:
    """The class for the file's own vocabulary, or None for tokenizer.json."""
    model = metadata.get("tokenizer.ggml.model")
    found = isinstance(metadata.get(_EMBEDDED), str) or path.is_file()
    if found and (model in _WITHOUT_VOCABULARY or architecture == "gpt-oss"):
        return None
    if model in _WITHOUT_VOCABULARY:
        raise TokenizerError(f"the GGUF file holds no vocabulary, and {path} does not exist; put tokenizer.json there")
    if isinstance(model, str) and model in _GGUF_MODELS:
        return _GGUF_MODELS[model]
    raise TokenizerError(
        f"tokenizer.ggml.model = {model!r:.60} is an unknown kind of tokenizer; supported: {', '.join(_GGUF_MODELS)}, "
        "hf-json"
    )
