"""The toolkit's own proof: every perturbed model must be found, and placed where it was perturbed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m0_models import miniatures
from m0_models.scan import Scan

from m0_parity.capture import Work, WorkerSettings, workload
from m0_parity.change import Patch
from m0_parity.divergence import free_bound
from m0_parity.layerwise.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from m0_parity.compare import Comparison
    from m0_parity.divergence import Divergence
    from m0_parity.perturb import Perturbation

_SEED = 1
_FIRST = (101, 102, 40)
"""Tokens that the vocabulary perturbations touch, so that every prompt holds them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One perturbation and what the tools said."""

    perturbation: Perturbation
    divergence: Divergence | None
    comparison: Comparison
    seconds: float

    @property
    def found(self) -> bool:
        """Placed at the right checkpoint and position, with the right words."""
        p, d = self.perturbation, self.divergence
        return (
            d is not None
            and d.confirmed
            and d.place == p.place
            and p.words in d.diagnosis
            and (p.position is None or p.position == d.position)
        )


class Bench:
    """Runs perturbations; unperturbed models are made once per kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._models: dict[str, Path] = {}
        work = workload(320, length=24, decode=2, seed=_SEED)
        self.work = [Work(item.id, (*_FIRST, *item.prompt[len(_FIRST) :]), item.decode) for item in work]

    def _sound(self, p: Perturbation) -> Path:
        key = f"{p.architecture}-{p.quant}-" + "-".join(f"{k}{v}" for k, v in p.shape.items())
        if key not in self._models:
            path = self._folder / f"{key}.gguf"
            self._models[key] = miniatures.write(path, p.architecture, p.quant, seed=_SEED, **p.shape)
        return self._models[key]

    def run(self, p: Perturbation) -> Outcome:
        """Give the worker the perturbed model and llama.cpp the sound one, and look for the difference."""
        start = time.perf_counter()
        sound = self._sound(p)
        patch = Patch(sound)
        p.apply(patch)
        broken = patch.write(self._folder / "perturbed.gguf", p.architecture)
        settings = WorkerSettings(gelu_table=p.architecture == "gpt2", **p.worker)
        sweep = Sweep(broken, self.work, settings, scratch=self._folder, base=free_bound(p.architecture), sound=sound)
        found = sweep.run()
        return Outcome(p, found.divergence, found.comparison, time.perf_counter() - start)


class RealBench:
    """Runs perturbations of one real model; a search ends at the layer where the mistake was found."""

    def __init__(self, sound: Path, folder: Path) -> None:
        self._sound = sound
        self._folder = folder
        work = workload(Scan(sound).tensors["token_embd.weight"].shape[0], length=24, decode=2, seed=_SEED)
        self.work = [Work(item.id, (*_FIRST, *item.prompt[len(_FIRST) :]), item.decode) for item in work]

    def run(self, p: Perturbation) -> Outcome:
        """Give the worker the perturbed model and llama.cpp the sound one, and look for the difference."""
        start = time.perf_counter()
        patch = Patch(self._sound)
        p.apply(patch)
        broken = patch.write(self._folder / "perturbed.gguf", p.architecture)
        sweep = Sweep(
            broken,
            self.work,
            WorkerSettings(),
            scratch=self._folder,
            base=free_bound(p.architecture),
            sound=self._sound,
            brief=True,
        )
        found = sweep.run()
        return Outcome(p, found.divergence, found.comparison, time.perf_counter() - start)


def selftest(perturbations: Iterable[Perturbation], folder: Path) -> Iterator[Outcome]:
    """Run each perturbation; files go to ``folder``."""
    bench = Bench(folder)
    for p in perturbations:
        yield bench.run(p)
