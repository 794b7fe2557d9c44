"""Rungs of the ladder on few tokens, and that each would see what it is for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from m0_models.miniatures import Recipe
from m0_models.shapes import ARCHITECTURES, Architecture
from m0_parity.rungs import checkpoints, quantized
from m0_parity.rungs.base import Bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sharp_attention_stays_exact(architecture: Architecture, tmp_path: Path) -> None:
    recipe = Recipe("sharp", architecture, "Q8_0", {"sharpness": checkpoints.SHARP})
    row = checkpoints.measure(Bench(tmp_path, length=48, decode=1), recipe)
    assert row.passed, row.note
    assert row.bound <= (1e-6 if architecture == "gpt2" else 1e-10)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("zoo"), length=90)


GPT_OSS = Recipe("gpt-oss-q8_0", "gpt-oss", "Q8_0")


def test_experts_chosen_otherwise_are_counted_and_explained(bench: Bench) -> None:
    row = quantized._free_running(bench, GPT_OSS)
    assert row.passed, row.note
    told = re.search(r"; (\d+) of 120 tokens left out for their experts \(the twin's: (\d+)\)", row.note)
    assert told is not None, row.note
    assert told[1] == told[2] != "0"


def test_an_expert_that_no_rounding_explains_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = quantized.record_worker

    def other_expert(*arguments: Any, **keywords: Any) -> Any:
        recording = honest(*arguments, **keywords)
        chosen = recording.requests["first"].rows[1, "ffn_moe_topk"].values
        chosen[7, 0] = np.setdiff1d(np.arange(8), chosen[7])[0]
        return recording

    monkeypatch.setattr(quantized, "record_worker", other_expert)
    row = quantized._free_running(bench, GPT_OSS)
    assert not row.passed
    assert "1 tokens to other experts that the twin does not send there" in row.note


def test_a_flip_against_a_clear_margin_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = quantized.record_worker

    def other_choice(*arguments: Any, **keywords: Any) -> Any:
        recording = honest(*arguments, **keywords)
        logits = recording.requests["first"].logits().values
        two = np.partition(logits, -2, axis=1)[:, -2:]
        at = int(np.argmax(two[:, 1] - two[:, 0]))
        second = np.argsort(-logits[at])[1]
        logits[at, second] = two[at, 1] + 0.01
        return recording

    monkeypatch.setattr(quantized, "record_worker", other_choice)
    row = quantized._free_running(bench, Recipe("llama-q8_0", "llama", "Q8_0"))
    assert not row.passed
    assert row.note.startswith("1 flips outside their margin")
