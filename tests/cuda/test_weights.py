"""Stored blocks survive repacking bit for bit: what the kernels read is what the file says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from m0_models.quantize import quantize
from m0_worker.devices.interface import StoredTensor
from m0_worker.gguf import GgmlType, dequantize

if TYPE_CHECKING:
    from m0_worker.devices.cuda import CudaDevice

SMALL_BLOCKS = [(24, 64), (40, 2880), (9, 896)]
ALL = [(16, 256), (300, 768), (9, 512)]
CASES = [(kind, rows, k) for kind in GgmlType for rows, k in ALL + ([] if kind.block_size > 32 else SMALL_BLOCKS)]


@pytest.mark.parametrize(("kind", "rows", "k"), CASES)
def test_weights_on_the_device_are_those_of_the_file(cuda: CudaDevice, kind: GgmlType, rows: int, k: int) -> None:
    from m0_worker.devices.cuda import driver  # noqa: PLC0415 - CuPy may be missing

    values = np.random.default_rng(rows * k).standard_normal((rows, k)).astype(np.float32)
    raw = np.ascontiguousarray(quantize(values, kind.name)).reshape(-1).view(np.uint8)
    matrix = cuda.weight([StoredTensor("w", (rows, k), kind, raw)])
    out = cuda.pool.allocate(4 * rows * k, "intermediates")
    arguments = (
        np.uint64(matrix.parts[0].buffer.address),
        np.int32(kind),
        np.int32(rows),
        np.int32(k),
        np.uint64(out.address),
    )
    driver.Kernels("repack.cu").launch("unpack", (64,), 256, arguments, cuda.stream)
    got = np.empty((rows, k), np.float32)
    driver.download(got, out.address, cuda.stream)
    cuda.stream.synchronize()
    assert np.array_equal(got.view(np.uint32), np.ascontiguousarray(dequantize(raw, kind, (rows, k))).view(np.uint32))
    # The padding of the last rows and columns is all that VRAM may hold beyond the file.
    assert matrix.parts[0].buffer.nbytes <= (rows + 8) / rows * (k + 127) / k * raw.nbytes + 512


def test_weights_are_resident(cuda: CudaDevice) -> None:
    raw = quantize(np.ones((16, 256), np.float32), "Q4_K").reshape(-1).view(np.uint8)
    cuda.weight([StoredTensor("w", (16, 256), GgmlType.Q4_K, raw)])
    assert cuda.check_residency()
    assert cuda.resident
