"""The worker's greedy answer beside llama.cpp's: the same token wherever llama.cpp is sure of it.

A stream shows texts and no ids, so llama.cpp is led along the text: at each step it decides, and where its choice is
not how the text goes on, the likeliest token that is stands for the worker's. llama.cpp rounds activations to 8 bits on
a quantized file. How much that moves its logits is measured on these very tokens, against the file's float32 twin, a
layer at a time; only where its lead is larger than that must the worker agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from m0_models.scan import Scan

from m0_parity import llamacpp
from m0_parity.capture import Work
from m0_parity.compare import IncomparableError
from m0_parity.layerwise.reference import ReferenceChain
from m0_parity.layerwise.slices import Slices

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

SURE: Final = 6.0
"""A lead of this many times the rounding's size (root mean square) is no near tie."""


@dataclass(frozen=True, slots=True)
class Step:
    """One token of the answer: what llama.cpp would have said, by how much, and what the worker said."""

    theirs: int
    ours: int
    lead: float
    rounding: float
    exact: int
    """The choice of llama.cpp on the float32 twin."""

    @property
    def sure(self) -> bool:
        """Whether llama.cpp's lead is above its own rounding."""
        return self.lead > SURE * self.rounding


def follow(path: Path, prompt: str, text: str, folder: Path) -> list[Step]:
    """Lead llama.cpp along ``text``, the greedy answer to ``prompt``.

    Raises:
        IncomparableError: no token of the vocabulary goes on as the text does.
        ReferenceUnavailableError: no llama.cpp, or it refuses the file.
    """
    with llamacpp.Model(path) as model:
        ids = model.tokenize(prompt, add_special=True)
        context = 256 * -(-(len(ids) + len(text.encode()) + 1) // 256)
        with llamacpp.Context(model, context) as decoder:
            rows, said, first = [decoder.decode(ids, every=False)[-1]], list[int](), list[int]()
            rest = text.encode()
            while rest:
                token = _goes_on(model, rows[-1], rest)
                first.append(int(rows[-1].argmax()))
                said.append(token)
                rest = rest[len(model.piece(token)) :]
                if rest:
                    rows.append(decoder.decode([token])[-1])
    native = np.stack(rows)
    exact = _exact(path, [*ids, *said[:-1]], folder, context)[len(ids) - 1 :]
    difference = native.astype(np.float64) - exact
    difference -= difference.mean(axis=1, keepdims=True)
    rounding = np.sqrt(np.square(difference).mean(axis=1))
    return [
        Step(a, b, float(row[a] - np.partition(row, -2)[-2]), float(r), int(e.argmax()))
        for a, b, row, r, e in zip(first, said, native, rounding, exact, strict=True)
    ]


def _goes_on(model: llamacpp.Model, logits: Floats, rest: bytes) -> int:
    """The likeliest token whose text is how ``rest`` begins."""
    for token in np.argsort(-logits, kind="stable")[:1000].tolist():
        piece = model.piece(token)
        if piece and rest.startswith(piece):
            return int(token)
    raise IncomparableError(f"no likely token goes on with {rest[:20]!r}")


def _exact(path: Path, ids: list[int], folder: Path, context: int) -> Floats:
    """Logits of llama.cpp on the float32 twin of ``path`` at every token of ``ids``."""
    slices = Slices(Scan(path), folder / "layer.gguf")
    chain = ReferenceChain(slices, [Work("answer", tuple(ids))], llamacpp.Settings(), context)
    for layer in range(slices.layers):
        chain.layer(layer)
    return chain.head().requests["answer"].logits().values
