"""llama.cpp's own tokenizer vectors: `ggml-vocab-*.gguf` with `.inp` and `.out` beside them (models/ of its sources).

The files hold real vocabularies, so they are not part of this project; whoever has them points `--vocab-dir` there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from m0_worker.gguf import GgufFile
from m0_worker.tokenizers import TokenizerError, load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

_SEPARATOR: Final = "\n__ggml_vocab_test__\n"


@dataclass(frozen=True, slots=True)
class VocabularyResult:
    """What one vocabulary's vectors said."""

    name: str
    equal: int
    total: int
    first_mismatch: str
    """Empty where all are equal, or why the vocabulary was not tried."""

    @property
    def tried(self) -> bool:
        """Whether the worker supports this vocabulary at all."""
        return self.total > 0


def check(folder: Path) -> list[VocabularyResult]:
    """Every vocabulary of a folder that has vectors.

    Raises:
        FileNotFoundError: the folder holds none.
    """
    paths = sorted(path for path in folder.glob("ggml-vocab-*.gguf") if path.with_name(f"{path.name}.inp").is_file())
    if not paths:
        raise FileNotFoundError(f"no ggml-vocab-*.gguf with .inp and .out files in {folder}")
    return [_check(path) for path in paths]


def _check(path: Path) -> VocabularyResult:
    name = path.name.removeprefix("ggml-vocab-").removesuffix(".gguf")
    with GgufFile.open(path) as gguf:
        try:
            tokenizer = load_tokenizer(gguf, path.parent)
        except TokenizerError as error:
            return VocabularyResult(name, 0, 0, str(error))
    texts = path.with_name(f"{path.name}.inp").read_bytes().decode().split(_SEPARATOR)
    lines = path.with_name(f"{path.name}.out").read_text(encoding="ascii").split("\n")
    equal, first = 0, ""
    expectations = [[int(number) for number in line.split()] for line in lines[: len(texts)]]
    for text, expected in zip(texts, expectations, strict=True):
        ids = tokenizer.encode(text, add_special=False, parse_special=False)
        equal += ids == expected
        if ids != expected and not first:
            first = f"{text!r}: ours {ids}, expected {expected}"
    return VocabularyResult(name, equal, len(texts), first)
