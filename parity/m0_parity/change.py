"""An open copy of a GGUF file, and the changes that perturbations make to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from m0_models import container
from m0_models.container import Tensor
from m0_models.quantize import block_size, dequantize
from m0_models.scan import Scan

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

Change = Callable[["Patch"], None]
_OF_THE_WRITER: Final = {"general.architecture", "general.alignment"}


class Patch:
    """An open copy of a model without its vocabulary: metadata and tensors by name, to be changed and written."""

    def __init__(self, path: Path) -> None:
        scan = Scan(path)
        self.metadata: dict[str, object] = {
            key: value for key, value in scan.metadata.items() if key not in _OF_THE_WRITER
        }
        self.tensors = {e.name: Tensor(e.name, e.type, scan.raw(e.name).copy()) for e in scan.tensors.values()}

    def values(self, name: str) -> Floats:
        """A writable float32 view of a tensor; a quantized one becomes an F32 one of the same values."""
        tensor = self.tensors[name]
        if tensor.type != "F32":
            dense = dequantize(tensor.raw, tensor.type)
            tensor = self.tensors[name] = Tensor(name, "F32", np.ascontiguousarray(dense).view(np.uint8))
        view: Floats = tensor.raw.view(np.float32)
        return view

    def write(self, path: Path, architecture: str) -> Path:
        """Write the changed copy."""
        return container.write(path, architecture, self.metadata, self.tensors.values(), complete=False)


def nothing(_: Patch) -> None:
    """The change is in the worker's options."""


def zero(name: str, patch: Patch) -> None:
    """Every value zero."""
    patch.values(name)[...] = 0


def fill(name: str, value: float, patch: Patch) -> None:
    """Every value the same."""
    patch.values(name)[...] = value


def scale(name: str, factor: float, patch: Patch) -> None:
    """Every value times ``factor``."""
    patch.values(name)[...] *= np.float32(factor)


def one_feature(name: str, index: int, factor: float, patch: Patch) -> None:
    """One column times ``factor``."""
    patch.values(name)[..., index] *= np.float32(factor)


def row(name: str, index: int, patch: Patch) -> None:
    """One row zero."""
    patch.values(name)[index] = 0


def key(key: str, value: object, patch: Patch) -> None:
    """Another value for a metadata key that the file has."""
    if key not in patch.metadata:
        raise KeyError(f"the model has no key {key}")
    patch.metadata[key] = value


def new_key(key: str, value: object, patch: Patch) -> None:
    """A metadata key that the file may not have."""
    patch.metadata[key] = value


def remove(names: tuple[str, ...], patch: Patch) -> None:
    """Tensors left out."""
    for name in names:
        del patch.tensors[name]


def other_pairing(name: str, heads: int, patch: Patch) -> None:
    """Rows of each head reordered from (2j, 2j+1) pairs to (j, j + n/2), as a converter does for llama."""
    values = patch.values(name)
    split = values.reshape(heads, -1, 2, *values.shape[1:])
    values[...] = split.swapaxes(1, 2).reshape(values.shape).copy()


def untie(change: Callable[[Patch], None], patch: Patch) -> None:
    """An output matrix of its own, equal to the embeddings, and then changed."""
    rows = patch.values("token_embd.weight").copy()
    patch.tensors["output.weight"] = Tensor("output.weight", "F32", rows.view(np.uint8))
    change(patch)


def scale_row(name: str, index: int, factor: float, patch: Patch) -> None:
    """One row times ``factor``."""
    patch.values(name)[index] *= np.float32(factor)


def swap(name: str, a: int, b: int, patch: Patch) -> None:
    """Two rows exchanged."""
    values = patch.values(name)
    values[[a, b]] = values[[b, a]]


def swap_spans(name: str, a: slice, b: slice, patch: Patch) -> None:
    """Two spans of rows exchanged."""
    values = patch.values(name)
    first = values[a].copy()
    values[a], values[b] = values[b].copy(), first


def swap_tensors(a: str, b: str, patch: Patch) -> None:
    """Two tensors under each other's name."""
    first, second = patch.tensors[a], patch.tensors[b]
    patch.tensors[a] = Tensor(a, second.type, second.raw)
    patch.tensors[b] = Tensor(b, first.type, first.raw)


def swap_layers(patch: Patch) -> None:
    """Layers 0 and 1 exchanged."""
    for name in [n for n in patch.tensors if n.startswith("blk.0.")]:
        swap_tensors(name, name.replace("blk.0.", "blk.1."), patch)


def transpose(name: str, patch: Patch) -> None:
    """A square matrix transposed."""
    values = patch.values(name)
    values[...] = values.T.copy()


def roll(name: str, by: int, patch: Patch) -> None:
    """Rows moved by ``by``."""
    values = patch.values(name)
    values[...] = np.roll(values, by, axis=0)


def block_scale(name: str, offset: int, row: int, patch: Patch) -> None:
    """Doubles the f16 scale of the first block of a row; ``offset`` is where it lies in the block."""
    raw = patch.tensors[name].raw.reshape(-1, patch.tensors[name].raw.shape[-1])
    half = raw[row, offset : offset + 2].view(np.float16)
    half *= np.float16(2)


def block_exponent(name: str, row: int, patch: Patch) -> None:
    """Doubles the E8M0 scale of the first MXFP4 block of a row."""
    raw = patch.tensors[name].raw.reshape(-1, patch.tensors[name].raw.shape[-1])
    raw[row, 0] += 1


def nibble_order(name: str, patch: Patch) -> None:
    """Q4_0 nibbles read as neighbours (2j, 2j+1) instead of halves (j, j+16)."""
    raw = patch.tensors[name].raw
    blocks = raw.reshape(-1, block_size("Q4_0")[1])
    quants = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    pairs = quants.reshape(-1, 16, 2)
    blocks[:, 2:] = pairs[..., 0] | (pairs[..., 1] << 4)


def sequence(*changes: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Several changes one after the other."""

    def change(patch: Patch) -> None:
        for one in changes:
            one(patch)

    return change
