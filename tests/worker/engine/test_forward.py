"""The forward pass of every architecture against a float64 one, and against itself run in other ways."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import pytest
from engine_by_hand import GREEDY, Seen, drain, generate, load, next_token, nmse
from float64_models import logits as float64_logits
from m0_models.recipes import RECIPES
from m0_models.shapes import ARCHITECTURES

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"rope_freqs": True, "tied": True}),
    ("llama", {"head_dim": 32, "kv_heads": 1, "heads": 6}),
    ("qwen2", {}),
    ("qwen2", {"tied": True, "kv_heads": 4}),
    ("phi3", {}),
    ("phi3", {"long_rope": 1024, "context": 2048}),
    ("phi3", {"long_rope": 4096, "context": 2048}),
    ("phi3", {"rope_dim": 48}),
    ("gpt2", {}),
    ("gpt2", {"tied": False}),
    ("gpt-oss", {}),
    ("gpt-oss", {"layers": 3, "experts_used": 1, "window": 130}),
]


def prompt_of(n: int, seed: int = 0, n_vocab: int = 320) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, n_vocab, n)]


@pytest.mark.parametrize(("architecture", "changes"), VARIANTS, ids=str)
def test_every_logit_equals_float64(architecture: str, changes: dict[str, Any], miniature: Any) -> None:
    path = miniature(architecture, **changes)
    tokens = prompt_of(150)  # more than one chunk
    model = load(path, kv_dtype="f32")
    seen = Seen(names=frozenset({"result_output"}))
    job = model.open(160, GREEDY, seed=0, tap=seen)
    drain(job.prefill(tokens))
    following = [drain(job.collect()), next_token(job), next_token(job)]
    ours = seen.joined("result_output")
    expected = float64_logits(path, tokens + following[:2])
    assert ours.shape == expected.shape
    assert nmse(expected, ours) <= 1e-10
    assert max(nmse(e, o) for e, o in zip(expected, ours, strict=True)) <= 1e-9
    job.close()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kv_cache_in_fp16_stays_close(architecture: str, miniature: Any) -> None:
    tokens = prompt_of(60)
    path = miniature(architecture)
    wide, half = load(path, kv_dtype="f32"), load(path, kv_dtype="f16")
    results = []
    for model in (wide, half):
        job = model.open(60, GREEDY, seed=0)
        drain(job.prefill(tokens))
        results.append(job.logits())
        job.close()
    assert 0 < nmse(results[0], results[1]) <= 1e-5


@pytest.mark.parametrize("quant", [recipe for recipe in RECIPES if recipe != "F32"])
@pytest.mark.parametrize("architecture", ["qwen2", "gpt-oss"])
def test_quantized_files_equal_float64_of_their_dequantized_weights(
    architecture: str, quant: str, miniature: Any
) -> None:
    path = miniature(architecture, quant)
    tokens = prompt_of(12)
    expected = float64_logits(path, tokens)[-1]
    for dense_budget in (0, 64 << 20):  # expanded when used, and expanded once
        job = load(path, kv_dtype="f32", dense_budget=dense_budget).open(12, GREEDY, seed=0)
        drain(job.prefill(tokens))
        assert nmse(expected, job.logits()) <= 1e-10
        job.close()


def test_stacked_parts_of_different_types(miniature: Any) -> None:
    # Q4_K_M gives attn_v another type than attn_q and attn_k.
    path = miniature("llama", "Q4_K_M", layers=8)
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(path).tensors}
    assert types["blk.0.attn_q.weight"] != types["blk.0.attn_v.weight"]
    tokens = prompt_of(12)
    job = load(path, kv_dtype="f32", dense_budget=0).open(12, GREEDY, seed=0)
    drain(job.prefill(tokens))
    assert nmse(float64_logits(path, tokens)[-1], job.logits()) <= 1e-10
    job.close()


def test_yarn_rounding_is_a_switch(miniature: Any) -> None:
    path, tokens = miniature("gpt-oss", yarn_context=4096), prompt_of(40)
    for rounded in (True, False):
        job = load(path, kv_dtype="f32", yarn_rounding=rounded).open(40, GREEDY, seed=0)
        drain(job.prefill(tokens))
        assert nmse(float64_logits(path, tokens, rounded=rounded)[-1], job.logits()) <= 1e-10
        assert nmse(float64_logits(path, tokens, rounded=not rounded)[-1], job.logits()) > 1e-6
        job.close()


def test_longrope_is_chosen_by_the_allocated_context(miniature: Any) -> None:
    path, tokens = miniature("phi3", long_rope=1024, context=2048), prompt_of(20)
    for n_ctx in (2048, 1024, 1000):
        job = load(path, kv_dtype="f32", n_ctx=n_ctx).open(20, GREEDY, seed=0)
        drain(job.prefill(tokens))
        assert nmse(float64_logits(path, tokens, n_ctx=n_ctx)[-1], job.logits()) <= 1e-10
        job.close()
    other = float64_logits(path, tokens, n_ctx=2048)[-1]
    assert nmse(other, float64_logits(path, tokens, n_ctx=1024)[-1]) > 1e-6


def test_gelu_table_is_a_switch(miniature: Any) -> None:
    tokens = prompt_of(20)
    results = []
    for table in (False, True):
        job = load(miniature("gpt2"), kv_dtype="f32", gelu_table=table).open(20, GREEDY, seed=0)
        drain(job.prefill(tokens))
        results.append(job.logits())
        job.close()
    assert 1e-10 < nmse(results[0], results[1]) < 1e-6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prompt_in_chunks_equals_token_by_token(architecture: str, miniature: Any) -> None:
    model = load(miniature(architecture), kv_dtype="f32")
    tokens = prompt_of(140)
    whole, single = Seen(), Seen()
    job = model.open(140, GREEDY, seed=0, tap=whole)
    drain(job.prefill(tokens))
    job.close()
    job = model.open(141, GREEDY, seed=0, tap=single)
    for token in tokens:
        drain(job.prefill([token]))
    job.close()
    assert whole.values.keys() == single.values.keys()
    for name, layer in whole.values:
        if name not in {"Qcur", "Kcur", "ffn_moe_topk"}:
            assert nmse(whole.joined(name, layer), single.joined(name, layer)) <= 1e-10, (name, layer)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_being_watched_changes_no_bit(architecture: str, miniature: Any) -> None:
    model = load(miniature(architecture, "Q8_0"))
    tokens = prompt_of(30)
    results = []
    for tap in (None, Seen(all_rows=False)):
        job = model.open(40, GREEDY, seed=0, tap=tap)
        drain(job.prefill(tokens))
        drain(job.collect())
        next_token(job)
        results.append(job.logits())
        job.close()
    assert np.array_equal(results[0], results[1])


def test_a_job_does_not_depend_on_earlier_ones(miniature: Any) -> None:
    model = load(miniature("qwen2", "Q4_0"))
    first = generate(model, prompt_of(9), 20)
    generate(model, prompt_of(50, seed=1), 30)
    assert generate(model, prompt_of(9), 20) == first
    assert generate(model, prompt_of(9), 7) == first[:7]
