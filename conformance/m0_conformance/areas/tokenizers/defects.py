"""Defects of tokenizers: the worker gets a vocabulary that cuts as a mistaken tokenizer does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur import launching
from m0_conformance.saboteur.launching import Launched

if TYPE_CHECKING:
    from collections.abc import Callable


class OtherVocabulary(Launched):
    """Serves an echo probe with metadata changed, and with the tokenizer.json beside it changed."""

    vocabulary: ClassVar[str] = ""
    key: ClassVar[str] = ""
    """The metadata key that is read wrongly."""
    value: ClassVar[Any] = None
    """What it is taken for; the text "missing" leaves it out, "reversed" turns a list round."""
    pattern: ClassVar[str] = ""
    """In tokenizer.json: the name of the pattern (in `m0_models.tokenizer_json`) that is used instead."""

    async def arguments(self, argv: list[str]) -> list[str]:
        argv = await super().arguments(argv)
        if self.model.stem != f"echo-{self.vocabulary}":
            return argv
        path = self.other_file(self._write)
        beside = self.model.parent / "tokenizer.json"
        if beside.is_file():
            document = beside.read_text("utf-8")
            (Path(path).parent / "tokenizer.json").write_text(self._document(document), encoding="utf-8")
        return launching.replaced(argv, "--model", path)

    def _document(self, text: str) -> str:
        if not self.pattern:
            return text
        from m0_models.tokenizer_json import PATTERNS  # noqa: PLC0415 - NumPy, for the few launches that need it

        return text.replace(json.dumps(PATTERNS["gpt-4o"]), json.dumps(PATTERNS[self.pattern]))

    def _write(self, path: Path) -> None:
        rewrite(self.model, path, self._metadata)

    def _metadata(self, metadata: dict[str, Any]) -> dict[str, Any]:
        if not self.key:
            return metadata
        kept = {key: value for key, value in metadata.items() if key != self.key}
        if self.value == "missing":
            return kept
        return {**kept, self.key: metadata[self.key][::-1] if self.value == "reversed" else self.value}


class PaddedVocabulary(Launched):
    name = "hf-json-vocabulary-padded"
    about = "With a tokenizer.json, vocab_size is rounded up to a multiple of 64."
    kills = ("M0-W-1361/properties",)
    source = "the embedding's padded rows counted"

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.model.stem != "echo-gpt-4o":
            return body
        return {**body, "vocab_size": -(-body["vocab_size"] // 64) * 64}


def rewrite(source: Path, path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Write a model file again with changed metadata."""
    import gguf  # noqa: PLC0415 - NumPy, for the few launches that need it
    from m0_models import container  # noqa: PLC0415 - the same
    from m0_models.corrupt import read_back  # noqa: PLC0415 - the same

    architecture = str(gguf.GGUFReader(source).fields["general.architecture"].contents())
    metadata, tensors = read_back(source)
    container.write(path, architecture, change(dict(metadata)), tensors, complete=False)
