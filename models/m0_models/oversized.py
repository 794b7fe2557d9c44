"""A well-formed model that is larger than any device it is made for: a sparse file, so it takes no disk space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from m0_models import container, layout, tokens
from m0_models.quantize import block_size
from m0_models.shapes import Shape

if TYPE_CHECKING:
    from pathlib import Path

_KIND: Final = "Q4_0"
_WIDTH: Final = 8192
_PER_LAYER: Final = 400 << 20
"""Bytes of one layer's weights at that width, a little less than they are."""
_MAX_LAYERS: Final = 512
"""Beyond it the rows get longer instead: the file must not have ten thousand tensors, another reason to refuse it."""


def write(path: Path, at_least: int) -> int:
    """Write a llama file whose tensors take at least ``at_least`` bytes; returns the bytes they take.

    All weights read as zero: they are holes in the file.
    """
    factor = 1
    while at_least // (_PER_LAYER * factor**2) >= _MAX_LAYERS:
        factor *= 2
    shape = Shape(
        "llama",
        width=_WIDTH * factor,
        heads=64 * factor,
        kv_heads=8 * factor,
        head_dim=128,
        layers=at_least // (_PER_LAYER * factor**2) + 1,
        feed_forward=28672 * factor,
    )
    writer = gguf.GGUFWriter(path, shape.architecture)
    metadata: dict[str, Any] = {
        "general.name": "oversized",
        "general.file_type": container.FILE_TYPES[_KIND],
        **layout.metadata(shape),
        **tokens.metadata(shape),
    }
    for key, value in container.completed(metadata).items():
        container.add(writer, key, value)
    elements, size = block_size(_KIND)
    total = 0
    for spec in layout.specs(shape):
        count = int(np.prod(spec.shape))
        if len(spec.shape) == 1:
            total += count * 4
            writer.add_tensor_info(spec.name, spec.shape, np.dtype(np.float32), count * 4)
        else:
            stored = (*spec.shape[:-1], spec.shape[-1] // elements * size)
            total += int(np.prod(stored))
            kind = GGMLQuantizationType[_KIND]
            writer.add_tensor_info(spec.name, stored, np.dtype(np.uint8), int(np.prod(stored)), kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(-(-path.stat().st_size // 32) * 32 + total)
    return total
