"""Damaged numbers are found before the worker calls itself ready; sound models leave no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from engine_by_hand import load
from m0_models.container import Tensor, write
from m0_models.corrupt import read_back
from m0_models.shapes import ARCHITECTURES
from m0_worker.adapters import ModelError
from m0_worker.errors import OutOfMemory
from m0_worker.trial import try_out

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sound_model_passes_and_keeps_nothing(architecture: str, miniature: Any) -> None:
    model = load(miniature(architecture))
    before = model.memory
    try_out(model, "file")
    assert model.memory == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "name", ["blk.1.ffn_norm.weight", "blk.0.attn_v.weight", "output_norm.weight", "output.weight"]
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_damaged_weight_is_refused(name: str, value: float, miniature: Any, tmp_path: Path) -> None:
    metadata, tensors = read_back(miniature("llama"))
    damaged = []
    for tensor in tensors:
        if tensor.name == name:
            values = tensor.raw.view(np.float32).copy()
            values[..., 3] = value
            damaged.append(Tensor.encode(name, values, "F32"))
        else:
            damaged.append(tensor)
    model = load(write(tmp_path / "model.gguf", "llama", metadata, damaged))
    with pytest.raises(ModelError, match=r"no finite numbers \(the file\)"):
        try_out(model, "the file")


def test_no_room_for_a_trial_is_the_jobs_own_affair(miniature: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(miniature("llama"))

    def full(*_: object, **__: object) -> None:
        raise OutOfMemory("kv", needed=2, available=1)

    monkeypatch.setattr(model.device, "open", full)
    try_out(model, "file")
