"""Loading, memory, limits and the life of a job."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_by_hand import GREEDY, Seen, drain, generate, load, next_token, nmse
from m0_worker.adapters import ADAPTERS, ModelError
from m0_worker.devices import open_device
from m0_worker.devices.cpu import CpuDevice, decoding
from m0_worker.devices.cpu.cache import KvCache
from m0_worker.devices.cpu.decoding import chunk_length
from m0_worker.devices.interface import CacheShape
from m0_worker.engine import load_model
from m0_worker.errors import DeviceError, OutOfMemory
from m0_worker.gguf import GgufFile
from m0_worker.gguf.dequantize import widen
from m0_worker.sampling import SamplingParams


def test_progress_is_told_at_the_quarters(miniature: Any) -> None:
    told: list[int] = []
    load(miniature("llama"), progress=told.append)
    assert told == [0, 25, 50, 75, 100]


def test_facts_of_a_model(miniature: Any) -> None:
    model = load(miniature("qwen2"))
    assert (model.architecture, model.n_ctx, model.n_vocab) == ("qwen2", 2048, 320)
    assert load(miniature("qwen2"), n_ctx=100).n_ctx == 100


def test_architectures() -> None:
    assert sorted(ADAPTERS) == ["gpt-oss", "gpt2", "llama", "phi3", "qwen2"]


def test_weights_in_blocks_take_their_stored_bytes(miniature: Any) -> None:
    path = miniature("llama", "Q4_0")
    with GgufFile.open(path) as file:
        stored = sum(t.nbytes for t in file.tensors.values())
    assert load(path, dense_budget=0).memory.weights == stored
    assert load(path).memory.weights > 4 * stored


@pytest.mark.parametrize(("kv_dtype", "size"), [("f16", 2), ("f32", 4)])
def test_a_job_frees_what_it_takes(kv_dtype: Any, size: int, miniature: Any) -> None:
    model = load(miniature("llama"), kv_dtype=kv_dtype)
    before = model.memory
    job = model.open(2000, GREEDY, seed=0)
    assert model.memory.kv >= 2 * 2 * 2000 * 2 * 64 * size  # keys and values, layers, positions, heads, features
    drain(job.prefill([1, 2, 3]))
    job.close()
    job.close()
    assert model.memory == before
    assert model.kv_bytes(2000) == 2 * 2 * 2000 * 2 * 64 * size


def test_a_job_can_be_closed_in_the_middle_of_a_step(miniature: Any) -> None:
    model = load(miniature("llama"))
    before = model.memory
    job = model.open(300, GREEDY, seed=0)
    steps = iter(job.prefill(list(range(200))))
    next(steps)
    job.close()
    assert model.memory == before
    with pytest.raises(RuntimeError):
        drain(job.collect())


def test_a_kv_cache_beyond_the_limit(miniature: Any) -> None:
    path = miniature("llama", "Q4_0")
    needed = load(path).memory.weights
    model = load(path, memory_limit=needed + 300_000)
    before = model.memory
    with pytest.raises(OutOfMemory) as refused:
        model.open(2048, GREEDY, seed=0)
    assert refused.value.purpose == "kv"
    assert refused.value.available == 300_000
    assert refused.value.needed > 300_000
    assert model.memory == before
    assert len(generate(model, [1, 2], 5)) == 5


def test_weights_beyond_the_limit(miniature: Any) -> None:
    with pytest.raises(OutOfMemory) as refused:
        load(miniature("llama"), memory_limit=1000)
    assert refused.value.purpose == "weights"
    assert refused.value.available == 1000


def test_a_demanded_context_must_fit(miniature: Any) -> None:
    path = miniature("llama", "Q4_0")
    limit = load(path).memory.weights + 300_000
    assert load(path, memory_limit=limit).n_ctx == 2048
    with pytest.raises(OutOfMemory) as refused:
        load(path, memory_limit=limit, n_ctx=2048)
    assert refused.value.purpose == "kv"


@pytest.mark.parametrize("n_ctx", [0, -1, 2049])
def test_a_context_the_model_was_not_made_for(n_ctx: int, miniature: Any) -> None:
    with pytest.raises(ModelError, match="2048"):
        load(miniature("llama"), n_ctx=n_ctx)


@pytest.mark.parametrize("n_tokens", [0, 2049])
def test_a_job_longer_than_the_context(n_tokens: int, miniature: Any) -> None:
    with pytest.raises(ValueError, match="positions"):
        load(miniature("llama")).open(n_tokens, GREEDY, seed=0)


def test_a_job_is_held_to_its_positions(miniature: Any) -> None:
    job = load(miniature("llama")).open(4, GREEDY, seed=0)
    drain(job.prefill([1, 2, 3]))
    assert drain(job.collect()) == drain(job.collect())
    next_token(job)
    with pytest.raises(ValueError, match="4 positions"):
        next_token(job)
    job.close()


@pytest.mark.parametrize("prompt", [[], [320], [-1]])
def test_prompts_that_make_no_sense(prompt: list[int], miniature: Any) -> None:
    job = load(miniature("llama")).open(4, GREEDY, seed=0)
    with pytest.raises(ValueError, match=r"token"):
        drain(job.prefill(prompt))
    job.close()


def test_seeds(miniature: Any) -> None:
    model = load(miniature("llama"))
    warm = SamplingParams(temperature=1.5)
    runs = [generate(model, [5, 6, 7], 24, seed=seed, sampling=warm) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_work_is_cut_into_steps(miniature: Any) -> None:
    model = load(miniature("llama"))
    job = model.open(400, GREEDY, seed=0)
    assert sum(1 for _ in job.prefill(list(range(300)))) == 30  # three chunks of two layers of five operations
    with pytest.raises(RuntimeError, match="before the last token was collected"):
        job.launch()
    drain(job.collect())
    job.launch()
    assert sum(1 for _ in job.collect()) == 10
    job.close()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "phi3", "gpt2", "gpt-oss"])
def test_the_event_loop_gets_its_turn_after_every_product(architecture: str, miniature: Any, monkeypatch: Any) -> None:
    model = load(miniature(architecture, "Q8_0"))
    done: list[str] = []

    def counted(name: str) -> Any:
        operation = getattr(CpuDevice, name)

        def count(*arguments: Any, **options: Any) -> Any:
            done.append(name)
            return operation(*arguments, **options)

        return count

    for name in ("linear", "attend", "experts"):
        monkeypatch.setattr(CpuDevice, name, counted(name))
    job = model.open(40, GREEDY, seed=0)
    at_once, begun = 0, 0
    for steps in (job.prefill(list(range(30))), job.collect()):
        for _ in steps:
            at_once, begun = max(at_once, len(done) - begun), len(done)
    at_once = max(at_once, len(done) - begun)
    job.close()
    assert done.count("attend") == 2
    assert at_once == 1


@pytest.mark.parametrize(
    ("position", "n_head", "length"), [(0, 14, 128), (1500, 14, 128), (2000, 14, 64), (60_000, 64, 16)]
)
def test_passes_are_shorter_the_more_a_token_looks_back_at(position: int, n_head: int, length: int) -> None:
    assert chunk_length(position, n_head) == length
    assert length == 16 or n_head * length * (position + length) <= 3_000_000


def test_a_long_prompt_is_the_same_in_passes_of_any_length(miniature: Any, monkeypatch: Any) -> None:
    model = load(miniature("llama"), kv_dtype="f32")
    logits = []
    for scores in (3_000_000, 20_000):
        monkeypatch.setattr(decoding, "SCORES", scores)
        tap = Seen(names=frozenset({"result_output"}), all_rows=True)
        job = model.open(301, GREEDY, seed=0, tap=tap)
        drain(job.prefill(list(range(300))))
        job.close()
        logits.append((len(tap.passes), tap.joined("result_output")))
    assert logits[0][0] == 3 < logits[1][0]
    assert nmse(logits[0][1], logits[1][1]) < 1e-11


def test_the_file_may_change_once_a_small_model_is_loaded(miniature: Any, tmp_path: Any) -> None:
    # M0-W-1002. Small models are expanded into memory of their own; large ones stay mapped, which replacing survives.
    path = tmp_path / "model.gguf"
    path.write_bytes(miniature("llama", "Q4_0").read_bytes())
    model = load(path)
    before = generate(model, [1, 2, 3], 10)
    path.write_bytes(b"")
    assert generate(model, [1, 2, 3], 10) == before


def test_widen_equals_the_conversion_of_numpy() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert np.array_equal(widen(finite).view(np.uint32), finite.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("n_tokens", [64, 40_000])  # held in float32 words, and in FP16
def test_the_cache_rounds_to_fp16(n_tokens: int) -> None:
    cache = KvCache(CacheShape(1, 2, 64, "f16"), n_tokens)
    k = np.random.default_rng(0).standard_normal((3, 2, 64)).astype(np.float32)
    cache.write(0, 5, k, 2 * k)
    keys, values = cache.read(0, 5, 8)
    assert np.array_equal(keys, k.astype(np.float16).astype(np.float32).swapaxes(0, 1))
    assert np.array_equal(values, (2 * k).astype(np.float16).astype(np.float32).swapaxes(0, 1))
    assert not cache.read(0, 0, 5)[0].any()


def test_devices() -> None:
    device = open_device("cpu")
    assert (device.kind, device.index, device.resident) == ("cpu", 0, False)
    assert device.name
    assert device.available() > 1 << 20
    with pytest.raises(DeviceError, match="use device 0"):
        open_device("cpu", 3)


def test_a_model_of_an_unknown_architecture_names_those_that_are_known(miniature: Any, tmp_path: Any) -> None:
    data = miniature("llama").read_bytes().replace(b"llama", b"bloom")
    path = tmp_path / "bloom.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"'bloom'.*gpt-oss, gpt2, llama, phi3, qwen2"):
        load_model(GgufFile.open(path), CpuDevice())
