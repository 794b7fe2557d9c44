"""The toolkit's own proof: every perturbed model must be found, and placed where it was perturbed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m0_models import miniatures

from m0_parity.capture import Work, WorkerSettings, record_llamacpp, record_worker, workload
from m0_parity.change import Patch
from m0_parity.compare import Comparison, compare
from m0_parity.divergence import Divergence, free_bound, locate
from m0_parity.twin import write_twin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from m0_parity.perturb import Perturbation
    from m0_parity.recording import Recording

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
    """Runs perturbations; unperturbed models and their reference recordings are made once per kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._references: dict[str, tuple[Path, Recording]] = {}
        work = workload(320, length=24, decode=2, seed=_SEED)
        self.work = [Work(item.id, (*_FIRST, *item.prompt[len(_FIRST) :]), item.decode) for item in work]

    def _reference(self, p: Perturbation) -> tuple[Path, Recording]:
        key = f"{p.architecture}-{p.quant}-" + "-".join(f"{k}{v}" for k, v in p.shape.items())
        if key not in self._references:
            sound = miniatures.write(self._folder / f"{key}.gguf", p.architecture, p.quant, seed=_SEED, **p.shape)
            oracle = sound if p.quant == "F32" else write_twin(sound, self._folder / f"{key}.twin.gguf")
            self._references[key] = sound, record_llamacpp(oracle, self.work)
        return self._references[key]

    def run(self, p: Perturbation) -> Outcome:
        """Give the worker the perturbed model and llama.cpp the sound one, and look for the difference."""
        start = time.perf_counter()
        sound, reference = self._reference(p)
        patch = Patch(sound)
        p.apply(patch)
        broken = patch.write(self._folder / "perturbed.gguf", p.architecture)
        settings = WorkerSettings(gelu_table=p.architecture == "gpt2", **p.worker)
        free = compare(reference, record_worker(broken, self.work, settings), same_model=False)
        bound = free_bound(p.architecture)
        divergence = locate(broken, self.work, reference, free, settings, bound=bound)
        return Outcome(p, divergence, free, time.perf_counter() - start)


def selftest(perturbations: Iterable[Perturbation], folder: Path) -> Iterator[Outcome]:
    """Run each perturbation; files go to ``folder``."""
    bench = Bench(folder)
    for p in perturbations:
        yield bench.run(p)
