"""One product by itself: rings of any size give every type and shape what float64 gives on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from m0_models.quantize import quantize
from m0_worker.devices.interface import CacheShape, StoredTensor
from m0_worker.gguf import GgmlType, dequantize

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_worker.devices.cuda import CudaDevice
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

SMALLEST_RING, LARGE_RING = 4608, 7168  # bytes of a warp
TYPES = [kind.name for kind in GgmlType]
# Float32 sums in another order differ by about 1e-14; a wrong weight or a lost chunk by far more.
BOUND = 1e-12

# Fewer units than warps; rows that are no multiple of eight; runs that end inside a chunk; blocks without a share, and
# blocks with more rows than are looked up ahead.
SHAPES = [(1, 256), (9, 512), (7, 9728), (200, 768), (1061, 2816)]
MANY_ROWS = (132 * 8 * 18 + 5, 256)


def bits(kinds: list[str]) -> int:
    return sum(1 << GgmlType[kind] for kind in set(kinds))


@pytest.fixture
def product(cuda: CudaDevice) -> Callable[..., Floats]:
    """Rows of several matrices, one below the other, times x; all by one recorded instruction or its pieces."""
    from m0_worker.devices.cuda import driver  # noqa: PLC0415 - CuPy may be missing
    from m0_worker.devices.cuda.engine import THREADS  # noqa: PLC0415 - the same
    from m0_worker.devices.cuda.program import DEFINES, PLAN_BYTES, STATE, WARPS, vector_bytes  # noqa: PLC0415 - the same
    from m0_worker.devices.cuda.recorder import Node, Recorder  # noqa: PLC0415 - the same

    def run(tensors: list[StoredTensor], x: Floats, ring: int, repeats: int = 1) -> Floats:
        matrix = cuda.weight(tensors)
        memory = cuda.pool.allocate(2 * 4 * (len(x) + matrix.rows) + 4096, "intermediates")
        driver.clear(memory.address, memory.nbytes, cuda.stream, 0xFF)
        driver.upload(memory.address, x, cuda.stream)
        at = [memory.address + -(-4 * len(x) // 256) * 256]

        def take(nbytes: int) -> int:
            at.append(at[-1] + -(-nbytes // 256) * 256)
            return at[-2]

        recorder = Recorder(take, CacheShape(1, 1, 64, "f32"), 1, cuda.multiprocessors)
        code, out = recorder.finish(recorder.linear(Node(recorder, len(x), memory.address), matrix, 0, None))
        kernels = driver.Kernels(
            "decode.cu",
            {
                **DEFINES,
                "HEAD_DIM": 64,
                "GROUP": 1,
                "KV_F32": 1,
                "TYPES": bits(TYPES),
                "RING_BYTES": ring,
                "SPINS": 1 << 22,
            },
            cooperative=True,
        )
        program = cuda.pool.allocate(code.nbytes, "intermediates")
        plans = cuda.pool.allocate(len(code) * cuda.multiprocessors * PLAN_BYTES, "intermediates")
        state, scratch = (cuda.pool.allocate(n, "intermediates") for n in (STATE.itemsize, 8 * cuda.multiprocessors))
        driver.upload(program.address, code)
        driver.clear(state.address, state.nbytes, cuda.stream)
        grid, shared = (cuda.multiprocessors,), max(vector_bytes(i, 64, 1) for i in code) + WARPS * ring + 128
        made: Any = (np.uint64(program.address), np.int32(len(code)), np.uint64(plans.address))
        kernels.launch("plan_program", grid, 32, made, cuda.stream)
        arguments: Any = (
            np.uint64(state.address),
            made[0],
            made[2],
            np.int32(0),
            made[1],
            np.uint64(scratch.address),
            np.uint32(0),
        )
        results = []
        for _ in range(repeats):
            driver.clear(out, 4 * matrix.rows, cuda.stream, 0xFF)
            kernels.launch("decode", grid, THREADS, arguments, cuda.stream, shared=shared)
            got = np.empty(matrix.rows, np.float32)
            driver.download(got, out, cuda.stream)
            cuda.stream.synchronize()
            results.append(got)
        assert len({result.tobytes() for result in results}) == 1
        for buffer in (memory, program, plans, state, scratch):
            buffer.free()
        return results[0]

    return run


def stored(kind: str, rows: int, k: int, seed: int) -> tuple[StoredTensor, Floats]:
    values = np.random.default_rng(seed).standard_normal((rows, k)).astype(np.float32)
    raw = np.ascontiguousarray(quantize(values, kind)).reshape(-1).view(np.uint8)
    return StoredTensor("w", (rows, k), GgmlType[kind], raw), dequantize(raw, GgmlType[kind], (rows, k))


def nmse(got: Floats, weights: list[Floats], x: Floats) -> float:
    reference = np.concatenate([w.astype(np.float64) @ x for w in weights])
    return float(((got - reference) ** 2).sum() / (reference**2).sum())


@pytest.mark.parametrize("ring", [SMALLEST_RING, LARGE_RING])
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_and_shape(product: Callable[..., Floats], kind: str, ring: int) -> None:
    for rows, k in SHAPES:
        tensor, weights = stored(kind, rows, k, rows + k)
        x = np.random.default_rng(k).standard_normal(k).astype(np.float32)
        assert nmse(product([tensor], x, ring, 3), [weights], x) <= BOUND, (rows, k)


@pytest.mark.parametrize("kind", ["Q4_K", "F16"])
def test_more_rows_than_a_block_looks_up_ahead(product: Callable[..., Floats], kind: str) -> None:
    """As octets, more rows than a block looks up ahead."""
    tensor, weights = stored(kind, *MANY_ROWS, 1)
    x = np.random.default_rng(1).standard_normal(MANY_ROWS[1]).astype(np.float32)
    assert nmse(product([tensor], x, LARGE_RING), [weights], x) <= BOUND


def test_a_product_too_tall_for_one_instruction(product: Callable[..., Floats], cuda: CudaDevice) -> None:
    from m0_worker.devices.cuda.program import BATCH_GROUPS  # noqa: PLC0415 - CuPy may be missing

    rows = BATCH_GROUPS * cuda.multiprocessors + 77
    tensor, weights = stored("F16", rows, 64, 2)
    x = np.random.default_rng(2).standard_normal(64).astype(np.float32)
    assert nmse(product([tensor], x, LARGE_RING), [weights], x) <= BOUND


@pytest.mark.parametrize("ring", [SMALLEST_RING, LARGE_RING])
def test_parts_of_different_types(product: Callable[..., Floats], ring: int) -> None:
    """Chunks of different sizes follow each other in one ring."""
    parts = [stored(kind, rows, 2304, rows) for kind, rows in (("Q6_K", 520), ("F32", 72), ("Q4_K", 1000), ("Q8_0", 9))]
    x = np.random.default_rng(3).standard_normal(2304).astype(np.float32)
    got = product([tensor for tensor, _ in parts], x, ring, 5)
    assert nmse(got, [weights for _, weights in parts], x) <= BOUND


def test_values_far_apart_keep_their_own_scale(product: Callable[..., Floats]) -> None:
    """Fixed point is by 128 values: small ones beside large ones lose nothing."""
    _, weights = stored("Q8_0", 64, 512, 4)
    x = np.random.default_rng(4).standard_normal(512).astype(np.float32)
    x[:128] *= np.float32(1e-12)
    weights[:, 128:] = 0
    raw = np.ascontiguousarray(quantize(weights, "Q8_0")).reshape(-1).view(np.uint8)
    tensor = StoredTensor("w", (64, 512), GgmlType.Q8_0, raw)
    kept = dequantize(raw, GgmlType.Q8_0, (64, 512))
    assert nmse(product([tensor], x, LARGE_RING), [kept], x) <= BOUND


def test_not_a_number_reaches_every_row(product: Callable[..., Floats]) -> None:
    tensor, _ = stored("Q4_K", 200, 768, 5)
    x = np.random.default_rng(5).standard_normal(768).astype(np.float32)
    x[300] = np.nan
    assert np.isnan(product([tensor], x, LARGE_RING)).all()
