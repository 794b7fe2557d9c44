"""Float32 twins of single layers: GGUF files that llama.cpp takes for whole models.

A layer needs nothing from the others but their output, and llama.cpp accepts embeddings instead of tokens: fed
with what the layer before it gave, a model of one layer computes what that layer computes inside the whole model, by
the same kernels. So the twin of a model of any size takes the disk and memory of its largest layer.

The output matrix is cut by rows and hangs behind a layer of zeros, which hands its input on as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np
from m0_models import container
from m0_models.container import U64, Tensor
from m0_models.quantize import dequantize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from m0_models.scan import Entry, Scan

_EMBEDDING: Final = "token_embd.weight"
_OUTPUT: Final = "output.weight"
_POSITIONS: Final = "position_embd.weight"
_LAYER: Final = re.compile(r"^blk\.(\d+)\.(.+)$")
_FEW: Final = 32
"""Rows of a vocabulary that nobody looks at."""
_ALTERNATING: Final = {"gpt-oss": 2}
"""Architectures whose layers differ by their number: a layer must keep its number modulo this."""


class Slices:
    """Writes the twins of a model's layers, one after the other, into one file.

    Attributes:
        layers: how many the model has.
        vocabulary: rows of the output matrix.
        width: its columns.
    """

    def __init__(self, scan: Scan, path: Path) -> None:
        self._scan = scan
        self._path = path
        names = [match for name in scan.tensors if (match := _LAYER.match(name))]
        self.layers = 1 + max((int(match[1]) for match in names), default=-1)
        self._head = _OUTPUT if _OUTPUT in scan.tensors else _EMBEDDING
        self.vocabulary, self.width = scan.tensors[self._head].shape

    def place(self, layer: int) -> int:
        """The number of ``layer`` inside its twin."""
        return layer % _ALTERNATING.get(self._scan.architecture, 1)

    @property
    def layer_bytes(self) -> int:
        """Bytes of the largest layer in float32."""
        sizes = [0] * self.layers
        for name, entry in self._scan.tensors.items():
            if match := _LAYER.match(name):
                sizes[int(match[1])] += 4 * int(np.prod(entry.shape, dtype=np.int64))
        return max(sizes, default=0)

    def head_rows(self) -> list[slice]:
        """Pieces of the output matrix, each no larger than a layer."""
        height = max(1024, self.layer_bytes // (4 * self.width))
        return [slice(at, min(at + height, self.vocabulary)) for at in range(0, self.vocabulary, height)]

    def layer(self, layer: int, tokens: Sequence[int] | None = None) -> Path:
        """The twin of one layer; with ``tokens`` it starts at the embeddings of those ids, in their order."""
        place = self.place(layer)
        parts = [*self._zeros(range(place)), *self._layer_as(layer, place)]
        if tokens is None:
            parts += [self._blank(_EMBEDDING, _FEW), *self._positions(blank=True)]
        else:
            rows = self._scan.raw(_EMBEDDING, np.array(tokens, np.int64))
            parts += [self._decoded(_EMBEDDING, rows), *self._positions(blank=False)]
        rows_of_head = _FEW if tokens is None else len(tokens)
        if self._head == _OUTPUT:
            parts.append(self._blank(_OUTPUT, rows_of_head))
        return self._write(parts, place + 1, rows_of_head)

    def head(self, rows: slice) -> Path:
        """The last norm and some rows of the output matrix, behind a layer of zeros."""
        count = rows.stop - rows.start
        parts = [*self._zeros([0]), self._decoded(self._head, self._scan.raw(self._head, rows))]
        parts += self._positions(blank=True)
        if self._head == _OUTPUT:
            parts.append(self._blank(_EMBEDDING, count))
        return self._write(parts, 1, count)

    def _write(self, parts: Iterable[Tensor], layers: int, vocabulary: int) -> Path:
        scan = self._scan
        arch = f"{scan.architecture}."
        metadata = {
            key: U64(value) if isinstance(value, int) and value >= 1 << 32 else value
            for key, value in scan.metadata.items()
            if key.startswith((arch, "general.")) and not isinstance(value, list)
        }
        metadata |= {"general.file_type": 0, f"{arch}block_count": layers, f"{arch}vocab_size": vocabulary}
        metadata |= {"tokenizer.ggml.model": "no_vocab"}
        del metadata["general.architecture"]
        metadata.pop("general.alignment", None)
        given = list(parts)
        named = {part.name for part in given}
        shared = [self._whole(e) for e in scan.tensors.values() if not _LAYER.match(e.name) and e.name not in named
                  and e.name not in {_EMBEDDING, _OUTPUT, _POSITIONS, "output.bias"}]  # fmt: skip
        return container.write(self._path, scan.architecture, metadata, [*given, *shared], complete=False)

    def _layer_as(self, layer: int, place: int) -> list[Tensor]:
        found = [
            (m[2], e) for name, e in self._scan.tensors.items() if (m := _LAYER.match(name)) and int(m[1]) == layer
        ]
        return [self._whole(entry, f"blk.{place}.{rest}") for rest, entry in found]

    def _zeros(self, places: Iterable[int]) -> list[Tensor]:
        """Layers of zeros: attention and feed-forward add nothing, so the input is the output."""
        found = [(m[2], e) for name, e in self._scan.tensors.items() if (m := _LAYER.match(name)) and m[1] == "0"]
        return [_zero(f"blk.{place}.{rest}", entry.shape) for place in places for rest, entry in found]

    def _positions(self, *, blank: bool) -> list[Tensor]:
        entry = self._scan.tensors.get(_POSITIONS)
        if entry is None:
            return []
        return [_zero(_POSITIONS, entry.shape) if blank else self._whole(entry)]

    def _blank(self, name: str, rows: int) -> Tensor:
        return _zero(name, (rows, self.width))

    def _whole(self, entry: Entry, name: str | None = None) -> Tensor:
        return self._decoded(entry.name, self._scan.raw(entry.name), name)

    def _decoded(self, source: str, raw: npt.NDArray[np.uint8], name: str | None = None) -> Tensor:
        values = dequantize(raw, self._scan.tensors[source].type)
        return Tensor(name or source, "F32", values.view(np.uint8))


def _zero(name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor of zeros, as small as it can be stored: a layer's matrices as Q4_0 where its blocks of 32 fit."""
    if _LAYER.match(name) and name.endswith(".weight") and len(shape) > 1 and shape[-1] % 32 == 0:
        return Tensor(name, "Q4_0", np.zeros((*shape[:-1], shape[-1] // 32 * 18), np.uint8))
    return Tensor(name, "F32", np.zeros((*shape[:-1], 4 * shape[-1]), np.uint8))
