"""Checks of broken model files: refused at start, with code, context and words."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

import psutil
import pytest
from m0_models import oversized
from m0_models.corrupt import CORRUPT

from m0_conformance.run.situation import Situation, needs, requirement

AT_ONCE = min(4, os.cpu_count() or 1)
EXIT_S = 40.0
TIB = 1 << 40

FILES: dict[str, tuple[str, ...]] = {
    "M0-W-1200/other-versions": ("version-2", "version-4"),
    "M0-W-1210/magic": ("bad-magic",),
    "M0-W-1210/tensor-count": ("10000-tensors",),
    "M0-W-1210/truncated": ("truncated",),
    "M0-W-1211/required-keys": (
        "no-architecture",
        "no-name",
        "no-context-length",
        "no-embedding-length",
        "no-block-count",
    ),
    "M0-W-1211/hostile-header": (
        "huge-string",
        "overflowing-dimensions",
        "offset-outside",
    ),
    "M0-W-1212/unknown-refused": ("unknown-architecture",),
    "M0-W-1214/missing-tensor": ("missing-tensor", "wrong-shape"),
    "M0-W-1362/unknown-pre": ("unknown-pre-tokenizer",),
}
"""Files of `m0_models.corrupt` for each clause."""

WORDS: dict[str, tuple[str, ...]] = {
    "version-2": ("version",),
    "version-4": ("version",),
    "bad-magic": ("magic",),
    "10000-tensors": ("tensor",),
    "truncated": ("truncat", "end", "outside", "beyond", "size", "short", "bounds"),
    "no-architecture": ("architecture",),
    "no-name": ("general.name",),
    "no-context-length": ("context_length",),
    "no-embedding-length": ("embedding_length",),
    "no-block-count": ("block_count",),
    "unknown-architecture": ("bloom",),
    "missing-tensor": ("ffn_up", "tensor"),
}
"""Where the fault has a name that every message about it must hold, in any case. Other files: any words."""


# Shown where a header is wrong and where an architecture or a tokenizer is unknown: two ways out of a start.
ANY_FAILURE = ("M0-W-1111/exit-code", "M0-W-1111/message", "M0-W-1111/context", "M0-W-1900/error")
SAYS_WHAT = "M0-W-1210/says-what"
TOO_BIG = "M0-W-1210/too-big"

GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "first-bytes": (
        ("M0-W-1200/other-versions", "M0-W-1210/magic"),
        ("M0-W-1410/load-failed-code", SAYS_WHAT, *ANY_FAILURE),
    ),
    "sizes": (("M0-W-1210/tensor-count", "M0-W-1210/truncated", TOO_BIG), (SAYS_WHAT,)),
    "keys": (("M0-W-1211/required-keys",), (SAYS_WHAT,)),
    "hostile": (("M0-W-1211/hostile-header",), ()),
    "names": (("M0-W-1212/unknown-refused", "M0-W-1362/unknown-pre"), ANY_FAILURE),
    "tensors": (("M0-W-1214/missing-tensor",), (SAYS_WHAT,)),
}
"""Files that are tried together: the clauses of their faults, and the clauses that every such refusal shows."""


@requirement("M0-W-1210/exit-one")
@pytest.mark.parametrize(
    "clauses",
    [
        pytest.param(own, id=name, marks=pytest.mark.requirement(*own, *shared))
        for name, (own, shared) in GROUPS.items()
    ],
)
@needs("command")
async def test_broken_files(situation: Situation, clauses: tuple[str, ...]) -> None:
    """One launch for each broken file; each must end by itself."""
    cases: dict[str, dict[str, object]] = {}
    paths: dict[str, dict[str, object]] = {}

    async def start(label: str, clause: str, path: str, words: tuple[str, ...], wrong: str) -> None:
        worker = await situation.launch(label, model=path, wait="no")
        cases[label] = {"clause": clause, "words": list(words), "wrong": wrong}
        paths[label] = situation.given(path)
        await worker.running_process.ready(EXIT_S * situation.scale)
        await worker.exited(1.0)

    async def corrupt(clause: str, name: str) -> None:
        path = await situation.model_path(f"corrupt:{name}")
        await start(name, clause, path, WORDS.get(name, ()), CORRUPT[name].wrong)

    async def too_big(folder: str) -> None:
        path = Path(folder) / "oversized.gguf"
        try:
            oversized.write(path, max(2 * TIB, 2 * psutil.virtual_memory().total))
        except OSError:  # a file system without sparse files of that size
            return
        wrong = "its tensors exceed any device's memory"
        await start("too big", TOO_BIG, str(path), ("memory", "vram", "byte", "fit", "large"), wrong)

    with tempfile.TemporaryDirectory(prefix="m0-oversized-") as folder:
        files = [partial(corrupt, clause, name) for clause in clauses for name in FILES.get(clause, ())]
        large = [partial(too_big, folder)] if TOO_BIG in clauses else []
        await situation.together(*large, *files, at_once=AT_ONCE)
    situation.fact("broken files", cases)
    situation.fact("given", paths)
