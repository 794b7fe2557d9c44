"""The toolkit's own proof as a rung: every perturbed model found, placed and named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_parity.rungs.base import Row
from m0_parity.selftest import selftest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from m0_parity.perturb import Perturbation


def rung(perturbations: Iterable[Perturbation], folder: Path) -> Iterator[Row]:
    """One row per perturbation; measured is 0 where it was placed and named rightly, 1 where not."""
    for outcome in selftest(perturbations, folder):
        p, found = outcome.perturbation, outcome.divergence
        note = found.sentence() if found else "nothing found"
        yield Row("selftest", f"{p.architecture} {p.name}", int(not outcome.found), 0, note, outcome.comparison, found)
