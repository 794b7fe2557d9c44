"""Models of real size for benchmarks, written at the speed of the disk: random bytes under sane scales.

Quantizing random floats would take minutes for 3.8 billion weights. Here every block gets random quants, and a scale
such that the weights have the standard deviation of a miniature's, so that activations neither die nor explode; a pool
of distinct blocks is repeated along the file, which no engine can tell from the real thing by its speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Final

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from m0_models import container, layout, tokens
from m0_models.container import FILE_TYPES
from m0_models.quantize import Bytes, block_size, dequantize, quantize
from m0_models.recipes import tensor_type
from m0_models.shapes import GPT_OSS_20B, PHI_3_MINI_4K, QWEN2_5_0_5B, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

BENCHMARKS: Final[Mapping[str, tuple[Shape, str]]] = {
    "qwen2.5-0.5b": (QWEN2_5_0_5B, "Q4_K_M"),
    "phi-3-mini": (PHI_3_MINI_4K, "Q4_K_M"),
    "gpt-oss-20b": (GPT_OSS_20B, "MXFP4"),
}
"""Real shapes with the recipe their files use: 0.4, 2.3 and 12 GB."""

_POOL: Final = 1 << 22
"""Elements of one pool of blocks (a prime step apart is added per tensor, so no two tensors are equal)."""
_ALIGNMENT: Final = 32


def write(path: Path, shape: Shape, quant: str, *, seed: int = 0, name: str = "benchmark") -> Path:
    """Write a model of ``shape`` in the recipe ``quant``; returns the path.

    Raises:
        ValueError: unknown quantization.
    """
    plan = [(spec, tensor_type(quant, spec, shape)) for spec in layout.specs(shape)]
    writer = gguf.GGUFWriter(path, shape.architecture)
    metadata: dict[str, Any] = {
        "general.name": name,
        "general.file_type": FILE_TYPES[quant],
        **layout.metadata(shape),
        **tokens.metadata(shape),
    }
    for key, value in container.completed(metadata).items():
        container.add(writer, key, value)
    for spec, kind in plan:
        if kind in {"F32", "F16"}:
            dtype = np.dtype(np.float32 if kind == "F32" else np.float16)
            writer.add_tensor_info(spec.name, spec.shape, dtype, int(np.prod(spec.shape)) * dtype.itemsize)
        else:
            stored = (*spec.shape[:-1], _row_bytes(spec, kind))
            count = int(np.prod(stored))
            writer.add_tensor_info(spec.name, stored, np.dtype(np.uint8), count, GGMLQuantizationType[kind])
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    rng = np.random.default_rng(seed)
    pools: dict[str, Bytes] = {}
    with path.open("r+b") as file:
        file.seek(0, 2)
        _pad(file)
        for spec, kind in plan:
            for part in _content(spec, kind, shape, rng, pools):
                file.write(part)
            _pad(file)
    return path


def _row_bytes(spec: layout.Spec, kind: str) -> int:
    elements, size = block_size(kind)
    return spec.shape[-1] // elements * size


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _content(
    spec: layout.Spec, kind: str, shape: Shape, rng: np.random.Generator, pools: dict[str, Bytes]
) -> Iterator[memoryview]:
    if len(spec.shape) == 1 or spec.role == "expert-bias":
        base = {"norm": 1.0, "factors": 1.0}.get(spec.role, 0.0)
        scale = 0.1 if spec.role in {"norm", "bias", "expert-bias"} else 1 / np.sqrt(spec.shape[-1])
        values = base + scale * rng.standard_normal(spec.shape, dtype=np.float32)
        yield quantize(values.astype(np.float32), kind).reshape(-1).data
        return
    deviation = 1 / np.sqrt(spec.shape[-1])
    if spec.role in {"embedding", "output"} and (shape.tied or spec.role == "output"):
        deviation = 3 / np.sqrt(shape.width)
    key = f"{kind} {deviation:.6f}"
    if key not in pools:
        pools[key] = _pool(kind, deviation, rng)
    pool = pools[key]
    elements, size = block_size(kind)
    left = int(np.prod(spec.shape)) // elements * size
    start = int(rng.integers(0, len(pool) // size)) * size
    while left:
        part = pool[start : start + left]
        yield part.data
        left -= len(part)
        start = 0


def _pool(kind: str, deviation: float, rng: np.random.Generator) -> Bytes:
    """Distinct blocks of ``kind`` whose decoded values have standard deviation ``deviation``."""
    sample = rng.standard_normal((_POOL // 4096, 4096), dtype=np.float32) * np.float32(deviation)
    pool = quantize(sample, kind).reshape(-1)
    seen = float(dequantize(pool[: block_size(kind)[1] * 64], kind).std())
    if not 0.5 * deviation < seen < 2 * deviation:
        raise ValueError(f"a pool of {kind} has standard deviation {seen}, not {deviation}")
    return pool
