"""Compiled kernels against NumPy: blocks bit for bit, products to float32 rounding, any number of threads alike."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from engine_by_hand import GREEDY, Seen, drain, generate, load, next_token, nmse
from m0_parity.rungs.dequantization import random_blocks
from m0_worker.devices.cpu import CpuDevice, library
from m0_worker.devices.cpu.attention import attention
from m0_worker.devices.cpu.cache import KvCache
from m0_worker.devices.interface import CacheShape, StoredTensor
from m0_worker.gguf import GgmlType, dequantize

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from m0_worker.devices.cpu.compiled.matrix import Kernels

ROWS = 700  # several pieces and several tiles, the last of each not whole
TYPES = list(GgmlType)


@pytest.fixture(scope="module", params=[1, 3])
def kernels(request: Any) -> Iterator[Kernels]:
    made = library.load(TYPES, request.param)
    yield made
    made.close()


def stored(kind: GgmlType, rows: int, n_in: int, name: str = "w") -> StoredTensor:
    n_blocks = n_in // kind.block_size
    return StoredTensor(name, (rows, n_in), kind, random_blocks(kind, rows * n_blocks).reshape(-1))


def sane(kind: GgmlType, rows: int, n_in: int) -> StoredTensor:
    """Blocks whose numbers are of one size, so that a product is not one huge number and noise."""
    tensor = stored(kind, rows, n_in)
    blocks = tensor.data.reshape(-1, kind.block_bytes)
    if kind is GgmlType.MXFP4:
        blocks[:, 0] = 120
    elif kind in {GgmlType.F32, GgmlType.F16, GgmlType.BF16}:
        values = np.random.default_rng(1).standard_normal(rows * n_in).astype(np.float32)
        cut = {
            GgmlType.F32: values,
            GgmlType.F16: values.astype(np.float16),
            GgmlType.BF16: values.view(np.uint16)[1::2],
        }
        blocks = np.ascontiguousarray(cut[kind]).view(np.uint8)
    else:
        one = {GgmlType.Q4_0, GgmlType.Q5_0, GgmlType.Q8_0, GgmlType.IQ4_NL, GgmlType.IQ4_XS}
        places = {GgmlType.Q2_K: (80, 82), GgmlType.Q3_K: (108,), GgmlType.Q6_K: (208,)}
        for at in places.get(kind, (0,) if kind in one else (0, 2)):
            blocks[:, at : at + 2] = np.array([0x2000], np.uint16).view(np.uint8)
    return StoredTensor("w", tensor.shape, kind, blocks.reshape(-1))


def test_every_storage_type_has_a_kernel() -> None:
    from m0_worker.devices.cpu.compiled.blocks import UNPACKINGS  # noqa: PLC0415 - imports numba

    assert set(UNPACKINGS) == set(GgmlType)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_blocks_are_expanded_bit_for_bit_as_numpy_does(kind: GgmlType, kernels: Kernels) -> None:
    tensor = stored(kind, 512, 512)
    matrix = kernels.take([tensor])
    assert matrix is not None
    expected = np.ascontiguousarray(dequantize(tensor.data, kind, tensor.shape))
    tiles = [kernels.expand(piece, 512).copy() for piece in matrix.tiles]
    assert np.array_equal(np.concatenate(tiles).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("n_tokens", [1, 5])
def test_products_equal_those_of_dequantized_weights(kind: GgmlType, n_tokens: int, kernels: Kernels) -> None:
    tensors = [sane(kind, ROWS, 512), sane(GgmlType.Q8_0, 33, 512)]
    matrix = kernels.take(tensors)
    assert matrix is not None
    x = np.random.default_rng(5).standard_normal((n_tokens, 512)).astype(np.float32)
    weights = np.concatenate([dequantize(t.data, t.type, t.shape) for t in tensors]).astype(np.float64)
    assert nmse(x @ weights.T, matrix.multiply(x)) < 1e-12


def test_rows_that_are_no_whole_groups_are_left_to_numpy(kernels: Kernels) -> None:
    assert kernels.take([stored(GgmlType.F16, 8, 48)]) is None


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3", "gpt2", "gpt-oss"])
def test_logits_have_the_same_bits_with_any_number_of_threads(architecture: str, miniature: Any) -> None:
    path = miniature(architecture, "MXFP4" if architecture == "gpt-oss" else "Q4_K_M")
    seen = []
    for threads in (1, 2, 4):
        model = load(path, dense_budget=0, threads=threads)
        job = model.open(70, GREEDY, seed=0)
        drain(job.prefill(list(range(40, 97))))
        drain(job.collect())
        logits = [job.logits()]
        for _ in range(5):
            next_token(job)
            logits.append(job.logits())
        job.close()
        model.device.close()
        seen.append(np.stack(logits))
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])


@pytest.mark.parametrize("quant", ["Q4_0", "Q4_K_M", "F16"])
def test_a_model_computes_the_same_with_and_without_kernels(quant: str, miniature: Any) -> None:
    path = miniature("llama", quant)
    logits = []
    for budget in (0, 64 << 20):
        tap = Seen(names=frozenset({"result_output"}))
        model = load(path, dense_budget=budget, kv_dtype="f32")  # FP16 would turn a last bit into a thousandth
        job = model.open(60, GREEDY, seed=0, tap=tap)
        drain(job.prefill(list(range(50))))
        drain(job.collect())
        next_token(job)
        job.close()
        model.device.close()
        logits.append(tap.joined("result_output"))
    assert nmse(logits[1], logits[0]) < 1e-11


def test_without_numba_numpy_computes_and_a_note_says_what_is_missing(miniature: Any, monkeypatch: Any) -> None:
    path = miniature("llama", "Q4_K_M")
    compiled = load(path, dense_budget=0)
    assert compiled.device.note is None
    expected = generate(compiled, [1, 2, 3], 12)
    compiled.device.close()
    monkeypatch.setattr(library, "find_spec", lambda _: None)
    plain = load(path, dense_budget=0)
    assert isinstance(plain.device, CpuDevice)
    assert plain.device.note is not None
    assert "install the [cpu] extra" in plain.device.note
    assert generate(plain, [1, 2, 3], 12) == expected


def test_a_processor_without_the_instructions_is_named(monkeypatch: Any) -> None:
    monkeypatch.setattr(library, "_NEEDED", ("avx2", "imaginary"))
    with pytest.raises(library.KernelsUnavailableError, match="lacks imaginary"):
        library.load([GgmlType.Q8_0], 1)


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 64), ("150000 100000", 1), ("50000 100000", 1), ("400000 100000", 4), ("", 64)]
)
def test_cores_are_those_that_the_process_may_use(quota: str, cores: int, tmp_path: Path, monkeypatch: Any) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    monkeypatch.setattr(library, "_QUOTA", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert library.n_cores() == cores


def test_a_small_model_imports_no_numba(miniature: Any) -> None:
    path = miniature("llama", "Q4_0")
    code = (
        "import sys; from m0_worker.devices import open_device; from m0_worker.engine import load_model; "
        "from m0_worker.gguf import GgufFile; "
        f"load_model(GgufFile.open({str(path)!r}), open_device('cpu')); "
        "print(sorted(name for name in sys.modules if name in ('numba', 'llvmlite')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def worker(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_prepare_compiles_ahead(tmp_path: Path) -> None:
    done = worker("-m", "m0_worker", "--prepare", "--device", "cpu", cache=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(tmp_path) in done.stdout
    code = (
        "from m0_worker.devices.cpu import library; from m0_worker.gguf import GgmlType\n"
        "library.load(GgmlType, 1)\n"
        "from m0_worker.devices.cpu.compiled import attention, rows\n"
        "made = [*map(rows.kernel, GgmlType), *attention.attention_kernels().values()]\n"
        "print(len(made) > 12 and all(kernel.cache_hits == 1 for kernel in made))"
    )
    assert worker("-c", code, cache=tmp_path).stdout.strip() == "True"


def test_kernels_that_cannot_be_kept_are_compiled_all_the_same(tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("no folder")
    done = worker("-m", "m0_worker", "--prepare", "--device", "cpu", cache=nowhere)
    assert done.returncode == 1
    assert "cannot be kept" in done.stderr
    code = "from m0_worker.devices.cpu import library; library.load([], 1); print(library.folder())"
    assert worker("-c", code, cache=nowhere).stdout.strip() == "None"


def test_a_failure_in_a_helper_is_raised_and_the_crew_works_on(kernels: Kernels) -> None:
    seen: list[int] = []

    def work(i: int) -> None:
        if i == 3:
            raise ValueError("piece 3")
        seen.append(i)

    with pytest.raises(ValueError, match="piece 3"):
        kernels.crew.share(work, 8)
    seen.clear()
    kernels.crew.share(seen.append, 8)
    assert sorted(seen) == list(range(8))


def test_closing_ends_the_helpers() -> None:
    before = threading.active_count()
    made = library.load([GgmlType.Q8_0], 3)
    assert threading.active_count() == before + 2
    made.close()
    made.close()
    assert threading.active_count() == before


def test_products_go_on_after_helpers_fell_asleep(kernels: Kernels) -> None:
    matrix = kernels.take([sane(GgmlType.Q4_K, ROWS, 512)])
    assert matrix is not None
    x = np.ones((1, 512), np.float32)
    first = matrix.multiply(x)
    threading.Event().wait(0.1)
    for _ in range(50):
        assert np.array_equal(matrix.multiply(x), first)


def test_a_table_looks_up_the_same_without_the_instruction(monkeypatch: Any) -> None:
    from m0_worker.devices.cpu.compiled import vectors  # noqa: PLC0415 - imports numba
    from numba import njit, types  # noqa: PLC0415 - takes a third of a second

    values = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)

    def looked_up() -> Any:
        look_up = vectors.table(*values)

        @njit(types.void(types.intp, types.intp))  # type: ignore[untyped-decorator]
        def expand(codes: int, out: int) -> None:
            vectors.store_floats(out, vectors.signed(look_up(vectors.load_bytes(codes))))

        codes, out = np.arange(32, dtype=np.uint8) % 16, np.empty(32, np.float32)
        expand(codes.ctypes.data, out.ctypes.data)
        return out.tolist()

    assert looked_up() == [*values, *values]
    monkeypatch.setattr(vectors, "on_x86", lambda _: False)
    assert looked_up() == [*values, *values]


@pytest.mark.parametrize("n_positions", [1, 31, 32, 33, 300])
@pytest.mark.parametrize("capacity", [400, 40_000])  # in float32 words, and in FP16
def test_attention_of_one_token_over_a_rounded_cache(n_positions: int, capacity: int, kernels: Kernels) -> None:
    rng = np.random.default_rng(2)
    shape = CacheShape(2, 2, 96, "f16")
    cache = KvCache(shape, capacity)
    k, v = rng.standard_normal((2, n_positions, 2, 96)).astype(np.float32)
    cache.write(1, 0, k, v)
    q, sinks = rng.standard_normal((1, 6 * 96)).astype(np.float32), rng.standard_normal(6).astype(np.float32)
    for sink in (None, sinks):
        expected = attention(q, cache, 1, n_positions - 1, shape, scale=0.1, window=None, sinks=sink)
        got = kernels.attend(q, cache, 1, 0, n_positions, scale=0.1, sinks=sink)
        assert nmse(expected, got) < 1e-12


def test_numbers_that_are_none_stay_so_in_attention(kernels: Kernels) -> None:
    shape = CacheShape(1, 1, 32, "f32")
    cache = KvCache(shape, 40)
    ones = np.ones((40, 1, 32), np.float32)
    broken = ones.copy()
    broken[7] = np.nan
    cache.write(0, 0, broken, ones)
    assert np.isnan(kernels.attend(ones[0], cache, 0, 0, 40, scale=1.0, sinks=None)).all()
