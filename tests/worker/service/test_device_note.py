"""What the log says where a large model has to do without compiled kernels."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from m0_models import miniatures
from m0_worker.cli import parse
from m0_worker.devices.cpu import CpuDevice, library
from m0_worker.lifecycle import _bring_up
from m0_worker.narration import Narrator
from m0_worker.starting import Opening

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def events(tmp_path: Path) -> Any:
    """Load a model onto a CPU device with a dense budget and return the events of the log by name."""
    model = miniatures.write(tmp_path / "model.gguf", "llama", "Q8_0")
    words = ["--worker-id", "7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90", "--model", str(model), "--gpu-device", "0"]

    def load(budget: int) -> list[dict[str, Any]]:
        stream = io.StringIO()
        config = parse([*words, "--port", "8080", "--device", "cpu"])
        device = CpuDevice(dense_budget=budget)
        _bring_up(config, device, Narrator(config, stream), Opening(config))
        device.close()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return load


def test_one_line_says_that_numba_is_missing(events: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(library, "find_spec", lambda _: None)
    told = [event for event in events(0) if event["event"] == "device"]
    assert len(told) == 1
    assert told[0]["level"] == "WARN"
    assert "numba is not installed: install the [cpu] extra" in told[0]["note"]


@pytest.mark.parametrize("budget", [0, 64 << 20])
def test_nothing_is_said_where_nothing_is_missing(budget: int, events: Any) -> None:
    assert not [event for event in events(budget) if event["event"] == "device"]
