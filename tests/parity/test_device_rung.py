"""T4's judgement of near-tied experts, with a CPU device that is disturbed on purpose in place of the CUDA device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from m0_models.miniatures import Recipe
from m0_parity import capture
from m0_parity.capture import WorkerSettings, workload
from m0_parity.recording import Rows
from m0_parity.rungs import device

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m0_parity.recording import Recording


def disturbed(path: Path, work: Any, place: tuple[int, str], change: Callable[[Any], Any]) -> Recording:
    """What the CPU device records if the values of one checkpoint are changed before it goes on with them."""
    clean = capture.record_worker(path, work, WorkerSettings(kv="f16"))
    for request in clean.requests.values():
        rows = request.rows[place]
        request.rows[place] = Rows(rows.positions, change(rows.values), rows.features)
    recording = capture.record_worker(path, work, WorkerSettings(kv="f16"), forced=clean, only=frozenset({place}))
    if place[1] == "ffn_moe_topk":  # recorded before it was changed; a device records what it goes on with
        for name, request in recording.requests.items():
            request.rows[place] = clean.requests[name].rows[place]
    return recording


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    path = Recipe("gpt-oss-q6_k", "gpt-oss", "Q6_K").write(tmp_path / "model.gguf")
    work = workload(320, length=120, decode=2)

    def measure(place: tuple[int, str], change: Callable[[Any], Any]) -> Any:
        stand_in = disturbed(path, work, place, change)

        def record(*arguments: Any, **options: Any) -> Any:
            settings = arguments[2]
            return stand_in if settings.device == "cuda" else capture.record_worker(*arguments, **options)

        monkeypatch.setattr(device, "record_worker", record)
        return device.measure("gpt-oss-q6_k", path, work)

    return measure


def noise(relative: float) -> Callable[[Any], Any]:
    rng = np.random.default_rng(1)
    return lambda values: (values * (1 + relative * rng.standard_normal(values.shape))).astype(values.dtype)


def test_a_choice_that_small_noise_turns_is_a_tie_and_the_rest_is_held_to_the_bound(measured: Any) -> None:
    row = measured((0, "ffn_norm"), noise(2e-3))
    assert row.passed
    assert "ties decided otherwise" in row.note


def test_noise_above_the_bound_is_not_excused_by_the_choices_it_turns(measured: Any) -> None:
    assert not measured((0, "ffn_norm"), noise(0.05)).passed


def test_another_choice_without_a_tie_fails(measured: Any) -> None:
    def roll(ids: Any) -> Any:
        ids = ids.copy()
        ids[7] = [i for i in range(8) if i not in ids[7]][:1] + list(ids[7][1:])
        return ids

    row = measured((0, "ffn_moe_topk"), roll)
    assert not row.passed
    assert "no ties" in row.note
