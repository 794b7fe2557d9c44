"""Every perturbed model is found and placed; the sound model shows nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from m0_models import miniatures
from m0_models.shapes import ARCHITECTURES, Architecture
from m0_parity.capture import WorkerSettings, record_llamacpp, record_worker
from m0_parity.compare import compare
from m0_parity.divergence import free_bound, locate
from m0_parity.layerwise.sweep import Sweep
from m0_parity.perturb import PERTURBATIONS
from m0_parity.selftest import Bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("perturbed"))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbation_is_placed(bench: Bench, name: str) -> None:
    outcome = bench.run(PERTURBATIONS[name])
    assert outcome.divergence is not None
    assert outcome.divergence.place == PERTURBATIONS[name].place
    assert outcome.found, outcome.divergence.sentence()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sound_model_shows_no_divergence(bench: Bench, tmp_path: Path, architecture: Architecture) -> None:
    model = miniatures.write(tmp_path / "sound.gguf", architecture, "F32")
    settings = WorkerSettings(gelu_table=architecture == "gpt2")
    swept = Sweep(model, bench.work, settings, scratch=tmp_path, base=free_bound(architecture)).run()
    assert swept.divergence is None
    assert swept.comparison.missing() == []
    assert swept.worst.excess(swept.bound) < 0.5
    reference = record_llamacpp(model, bench.work)
    free = compare(reference, record_worker(model, bench.work, settings))
    bound = free_bound(architecture)
    assert free.worst().nmse <= bound
    assert locate(model, bench.work, reference, free, settings, bound=bound) is None
