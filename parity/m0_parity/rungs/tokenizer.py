"""T0: token ids, token for token, on generated texts and on llama.cpp's own vectors where the user has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_parity.rungs.base import Row
from m0_parity.tokenizers import vectors
from m0_parity.tokenizers.cli import fuzz_all
from m0_parity.tokenizers.fuzz import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def rung(strings: int, vocabularies: Path | None, jobs: int = 1) -> Iterator[Row]:
    """One row per backend; measured is 0 where all texts have equal ids, 1 where one has not."""
    for result in fuzz_all(list(BACKENDS), strings, 0, jobs):
        note = result.problem or f"{result.count} texts, every token's text, {result.decodings} decodings"
        yield Row("T0", result.vocabulary, int(bool(result.problem)), 0, note)
    if vocabularies is None:
        why = "llama.cpp's vocabulary files are needed (--vocab-dir); not tried here"
        yield Row("T0", "llama.cpp's own vectors", float("nan"), 0, why, ran=False)
        return
    for found in vectors.check(vocabularies):
        if found.tried:
            note = f"{found.equal} of {found.total} equal" + (
                f"; {found.first_mismatch}" if found.first_mismatch else ""
            )
            yield Row("T0", f"vectors of {found.name}", found.total - found.equal, 0, note)
