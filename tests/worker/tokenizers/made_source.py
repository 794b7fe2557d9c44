"""A vocabulary in memory, as an opened GGUF file would give it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from m0_models import vocabularies

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Source:
    metadata: Mapping[str, object]
    architecture: str = "llama"
    name: str = "made"


@dataclass
class Spellings:
    """A small vocabulary under construction: add tokens, then `source`."""

    model: str = "gpt2"
    tokens: list[str] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def add(self, *spellings: str, kind: int = 1, score: float = 0.0) -> Spellings:
        self.tokens += spellings
        self.types += [kind] * len(spellings)
        self.scores += [score] * len(spellings)
        return self

    def source(self, *, name: str = "made", **keys: object) -> Source:
        metadata: dict[str, object] = {
            "tokenizer.ggml.model": self.model,
            "tokenizer.ggml.tokens": self.tokens,
            "tokenizer.ggml.token_type": self.types,
        }
        if self.model == "llama":
            metadata["tokenizer.ggml.scores"] = self.scores
        else:
            metadata["tokenizer.ggml.merges"] = ["a b"]
        metadata |= {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
        return Source({key: value for key, value in metadata.items() if value is not None}, name=name)


def made(name: str, **changes: object) -> Source:
    """One of the made vocabularies, with some keys changed (None removes one; `__` stands for a dot)."""
    whole = vocabularies.make(name)
    metadata = dict(whole.metadata) | {key.replace("__", "."): value for key, value in changes.items()}
    present = {key: value for key, value in metadata.items() if value is not None}
    return Source(present, whole.architecture, cast("str", present["general.name"]))
