"""Probes in the shape of a real model say on llama.cpp what the small ones say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from m0_models import probes
from m0_models.bytelevel import words
from m0_models.probes.form import vocabulary_for, write
from m0_models.probes.likeness import NAMED, Likeness
from m0_models.probes.parts import Rows
from m0_models.probes.position import amplitude
from m0_models.probes.script import SCRIPTS
from m0_models.scan import Scan
from m0_models.shapes import Shape
from m0_parity.llamacpp import Context, Model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m0_models.probes import Probe

SMALL = {
    "qwen2": Shape(
        "qwen2", width=640, heads=10, kv_heads=2, layers=3, feed_forward=96, vocabulary=2000, qkv_bias=True,
        rope_base=1e6, epsilon=1e-6,
    ),
    "llama": Shape("llama", width=768, heads=8, kv_heads=8, head_dim=96, layers=2, feed_forward=96, vocabulary=2000),
    "phi3": Shape("phi3", width=768, heads=8, kv_heads=8, head_dim=96, layers=2, feed_forward=96, vocabulary=2000),
    "gpt-oss": Shape(
        "gpt-oss", width=576, heads=16, kv_heads=4, layers=3, feed_forward=96, vocabulary=2000, qkv_bias=True,
        window=16, experts=4, experts_used=2, expert_feed_forward=96, rope_base=150000.0, yarn_factor=32.0,
        yarn_context=4096,
    ),
}  # fmt: skip
"""Sizes that are no power of two and no multiple of a head, a vocabulary that must be filled up."""


def likeness(form: str) -> Likeness:
    return Likeness(form, SMALL[form])


def says(context: Context, model: Model, prompt: str, count: int) -> tuple[bytes, float]:
    """The greedy text, and the least distance of a chosen token's logit from the next best."""
    context.reset()
    tokens, logits = context.greedy(model.tokenize(prompt), count)
    top = np.sort(logits, axis=1)
    return b"".join(map(model.piece, tokens)), float((top[:, -1] - top[:, -2]).min())


def check_script(probe: Probe) -> None:
    with Model(probe.path) as model, Context(model, 512) as context:
        for prompt, script in probe.facts["scripts"].items():
            said = [*script["tokens"], *script["cycle"][:3]]
            text, margin = says(context, model, prompt, len(said) or 1)
            assert text == b"".join(map(bytes.fromhex, said)), script["name"]
            assert margin >= probe.facts["margin"]
            if script["ends"] == "eos":
                context.reset()
                tokens, _ = context.greedy(model.tokenize(prompt), len(said) + 1)
                assert tokens[-1] == probe.facts["eos"]


def check_position(probe: Probe) -> None:
    letters = list(probe.facts["alphabet"])[:62]
    prompt = [letters[i] for i in np.random.default_rng(1).integers(0, len(letters), 200)]
    with Model(probe.path) as model, Context(model, 512) as context:
        ids = model.tokenize("".join(prompt))
        assert len(ids) == len(prompt)
        logits = context.decode(ids)
        assert logits.argmax(axis=1)[3:].tolist() == ids[:-3]
        assert says(context, model, "".join(prompt), 8)[0].decode() == "".join(prompt[-4:]) * 2


def check_memory(probe: Probe) -> None:
    letters = list(probe.facts["alphabet"])[:31]
    with Model(probe.path) as model, Context(model, 512) as context:
        ids = model.tokenize("".join(letters))
        logits = context.decode(ids)[-1]
        assert logits[ids].min() - np.delete(logits, ids).max() >= probe.facts["margin"]
        assert says(context, model, letters[0] * 3 + letters[1], 6)[0].decode() == letters[0] * 6


def check_bias(probe: Probe) -> None:
    with Model(probe.path) as model, Context(model, 512) as context:
        assert says(context, model, "abc", 6)[0].decode() == probe.facts["says"] * 6


def check_dice(probe: Probe) -> None:
    facts = probe.facts
    with Model(probe.path) as model, Context(model, 512) as context:
        logits = context.decode(model.tokenize("whatever"))[-1]
        assert len(logits) == facts["vocab"]
        assert np.abs(logits[facts["ids"]] - facts["logits"]).max() <= 1e-3 * abs(facts["others"])
        assert np.delete(logits, facts["ids"]).max() <= facts["others"] + 1e-3 * abs(facts["others"])


CHECKS: dict[str, Callable[[Probe], None]] = {
    "script": check_script,
    "position": check_position,
    "memory": check_memory,
    "bias": check_bias,
    "dice": check_dice,
}


@pytest.mark.parametrize("quant", ["Q4_0", "F16"])
@pytest.mark.parametrize("form", SMALL)
@pytest.mark.parametrize("kind", CHECKS)
def test_a_probe_in_a_shape_says_what_it_must(tmp_path: Path, kind: str, form: str, quant: str) -> None:
    write: Callable[..., Probe] = getattr(probes, kind)
    if kind == "bias" and form in {"llama", "phi3"}:
        with pytest.raises(ValueError, match="have no biases"):
            write(tmp_path / "probe.gguf", like=likeness(form), quant=quant)
        return
    CHECKS[kind](write(tmp_path / "probe.gguf", like=likeness(form), quant=quant))


def write_source(path: Path, form: str) -> Path:
    """A file with a vocabulary whose words are reached by merges, as a trained one's are."""
    like = likeness(form)
    vocabulary = vocabulary_for(like.form, like)
    made = [word.decode() for word in words(600)]
    syllables = sorted({word[1:3] for word in made} | {word[3:] for word in made})
    for parts in ([(s[0], s[1]) for s in syllables], [(" ", s) for s in syllables], [(w[:3], w[3:]) for w in made]):
        for left, right in parts:
            vocabulary.merge(left.encode(), right.encode())
    eos = vocabulary.end()
    rows = Rows(np.ones((1, 256), dtype=np.float32), np.zeros(len(vocabulary), dtype=np.intp))
    write(
        path, form=like.form, quant="F16", name="source", vocabulary=vocabulary, eos=eos, embeddings=rows, output=rows,
        like=like,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("form", ["qwen2", "llama", "phi3"])
def test_a_probe_takes_a_files_shape_and_vocabulary(tmp_path: Path, form: str) -> None:
    source = write_source(tmp_path / "source.gguf", form)
    like = probes.of_file(source)
    sizes = SMALL[form]
    assert (like.shape.width, like.shape.heads, like.shape.layers) == (sizes.width, sizes.heads, sizes.layers)
    for kind in ("script", "position", "memory", "dice"):
        made = getattr(probes, kind)(tmp_path / "made.gguf", like=like, quant="F16")
        CHECKS[kind](made)
        keys = [key for key in Scan(source).keys if key.startswith("tokenizer.ggml.") and "add_" not in key]
        assert [Scan(made.path).value(key) for key in keys] == [Scan(source).value(key) for key in keys]


def test_a_shape_takes_no_space_for_what_is_zero(tmp_path: Path) -> None:
    probe = probes.script(tmp_path / "probe.gguf", like=probes.named("qwen2.5-0.5b"))
    status = probe.path.stat()
    assert status.st_size > 400e6
    assert status.st_blocks * 512 < 12e6
    sizes = Scan(probe.path).metadata
    assert [sizes[f"qwen2.{key}"] for key in ("embedding_length", "block_count", "feed_forward_length")] == [
        896, 24, 4864
    ]  # fmt: skip
    check_script(probe)


@pytest.mark.parametrize("name", NAMED)
def test_rows_of_padding_cannot_be_drawn(name: str, tmp_path: Path) -> None:
    probe = probes.dice(tmp_path / "probe.gguf", like=probes.named(name), quant="Q4_0")
    assert sum(probe.facts["probabilities"]) > 1 - 1e-12
    # 200,000 rows at logit -64 under faces from 4 downwards, at temperature 2
    faces = np.exp(np.array(probe.facts["logits"]) / 2).sum()
    assert probe.facts["vocab"] * np.exp(probe.facts["others"] / 2) / faces < 1e-8


@pytest.mark.parametrize("name", NAMED)
def test_attention_sees_one_lag_in_every_shape(name: str) -> None:
    like = probes.named(name)
    rotation = like.rotation(like.form)
    angles = rotation.angles()[rotation.angles() > 0.05]
    lags = np.arange(1, 4096)[:, None]
    apart = amplitude(rotation) ** 2 * (1 - np.cos(lags * angles)).sum(axis=1) / np.sqrt(rotation.head)
    assert apart.min() >= 23.99


def test_what_no_probe_can_be_like_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of qwen2\.5-0\.5b"):
        probes.named("qwen3")
    small = Likeness("small", Shape("llama", width=128, heads=2, kv_heads=2, vocabulary=400, layers=1))
    with pytest.raises(ValueError, match="does not fit into small"):
        probes.script(tmp_path / "probe.gguf", like=small)


def test_scripts_are_what_the_vocabulary_can_say(tmp_path: Path) -> None:
    said = probes.script(tmp_path / "a.gguf", form="llama", spm=True).facts["prompts"]
    everything = {entry.name for entry in SCRIPTS}
    assert everything - set(said) == {"joined"}
