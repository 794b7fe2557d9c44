"""What read-out probes promise, shown on llama.cpp: the right engine says right, a mistaken one its mistake's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from m0_models.quantize import dequantize, quantize
from m0_models.readouts import MISTAKES, Readout, ReadoutError, readouts, storage
from m0_parity.llamacpp import Context, Model
from m0_parity.llamacpp.engine import Settings
from m0_worker.devices.cpu import CpuDevice
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

READOUTS = readouts()
AS_USED = Settings(flash_attention=True, kv="f16", repack=True, threads=2)
"""As llama.cpp is used: half-precision cache, eight-bit activations."""
NARROW = 20
"""How many times an engine's rounding the margin must be."""


def said(model: Model, context: Context, text: str, count: int) -> tuple[list[str], float]:
    """The pieces said greedily after ``text``, and the smallest margin of one over the next best."""
    context.reset()
    tokens, logits = context.greedy(model.tokenize(text), count)
    top = np.sort(logits, axis=1)
    return [model.piece(token).decode() for token in tokens], float((top[:, -1] - top[:, -2]).min())


@pytest.mark.parametrize("name", READOUTS)
def test_llamacpp_says_right_by_many_times_its_rounding(tmp_path: Path, name: str) -> None:
    probe = READOUTS[name].write(tmp_path / "probe.gguf")
    margins = []
    for settings in (Settings(), AS_USED):
        with Model(probe.path) as model, Context(model, 256, settings) as context:
            smallest = []
            for prompt in probe.facts["prompts"]:
                pieces, margin = said(model, context, prompt["text"], len(prompt["says"]))
                assert pieces == prompt["says"]
                smallest.append(margin)
            margins.append(min(smallest))
    promised = probe.facts["margin"]
    assert max(abs(margin - promised) for margin in margins) * NARROW <= promised


@pytest.mark.parametrize("name", READOUTS)
def test_the_bundled_engine_says_right(tmp_path: Path, name: str) -> None:
    probe = READOUTS[name].write(tmp_path / "probe.gguf")
    engine = load_model(GgufFile.open(probe.path), CpuDevice())
    with Model(probe.path, vocab_only=True) as vocabulary:
        for prompt in probe.facts["prompts"]:
            ids = vocabulary.tokenize(prompt["text"])
            job = engine.open(len(ids) + len(prompt["says"]), SamplingParams(temperature=0.0), seed=0)
            _ended(job.prefill(ids))
            pieces = []
            for _ in prompt["says"]:
                if pieces:
                    job.launch()
                pieces.append(vocabulary.piece(_ended(job.collect())).decode())
            job.close()
            assert pieces == prompt["says"]


def _ended(steps: Iterator[None]) -> int:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return int(end.value or 0)


@pytest.mark.parametrize("name", [name for name, readout in READOUTS.items() if readout.file_mistakes])
def test_a_mistaken_file_makes_llamacpp_say_the_mistakes_name(tmp_path: Path, name: str) -> None:
    readout = READOUTS[name]
    built = readout.build()
    facts = built.write(tmp_path / "probe.gguf").facts
    wrong = {}
    for mistake in readout.file_mistakes:
        path = built.write_as_taken(tmp_path / "taken.gguf", mistake)
        named = set()
        with Model(path) as model, Context(model, 256) as context:
            for prompt in facts["prompts"]:
                pieces, _ = said(model, context, prompt["text"], len(prompt["says"]))
                first = next(
                    (piece for piece, right in zip(pieces, prompt["says"], strict=True) if piece != right), None
                )
                if first is not None:
                    named.add(facts["names"].get(first, first))
        allowed = {mistake} | {other for pair in readout.alike if mistake in pair for other in pair}
        if not named or not named <= allowed:
            wrong[mistake] = named
    assert wrong == {}


def test_every_mistake_is_told_by_some_readout() -> None:
    told = {(readout.architecture, name) for readout in READOUTS.values() for name in readout.names}
    assert {(a, mistake.name) for mistake in MISTAKES for a in mistake.architectures} <= told
    stored = {(readout.quant, name) for readout in READOUTS.values() for name in readout.names}
    assert {(kind, misreading.name) for misreading in storage.MISREADINGS for kind in misreading.kinds} <= stored


@pytest.mark.parametrize("kind", storage.TYPES)
def test_blocks_put_together_again_are_what_the_format_says(kind: str) -> None:
    raw = quantize(np.random.default_rng(1).standard_normal((8, 512)).astype(np.float32), kind)
    np.testing.assert_array_equal(storage.values(storage.parts(raw, kind)).reshape(8, 512), dequantize(raw, kind))


def test_a_mistake_that_cannot_be_told_is_an_error(tmp_path: Path) -> None:
    silent = Readout("silent", "llama", "nothing", ("rope-half",), ("a",), changes={"feed_forward": 256})
    with pytest.raises(ReadoutError, match="rope-half"):
        silent.write(tmp_path / "probe.gguf")


def test_what_no_file_makes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file makes the mistake 'layer-mean'"):
        READOUTS["gpt2-layernorm"].build().write_as_taken(tmp_path / "taken.gguf", "layer-mean")
