"""The worker's CPU device against committed numbers of llama.cpp, which need not be installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from m0_models import miniatures
from m0_models.shapes import ARCHITECTURES
from m0_parity import golden
from m0_parity.capture import sha256
from m0_parity.change import Patch, other_pairing
from m0_parity.compare import IncomparableError
from m0_parity.divergence import free_bound
from m0_parity.metrics import nmse
from m0_parity.names import LOGITS

if TYPE_CHECKING:
    from m0_parity.golden import Gap, Golden

FILES = sorted((Path(__file__).parent / "golden").glob("*.jsonl"))


def over(gaps: list[Gap], bound: float) -> list[Gap]:
    return [gap for gap in gaps if not (gap.nmse <= bound and gap.figures <= np.sqrt(bound))]


def test_every_architecture_has_two_goldens() -> None:
    kinds = {(g.recipe.architecture, g.recipe.quant != "F32") for g in map(golden.read, FILES)}
    assert kinds == {(architecture, quantized) for architecture in ARCHITECTURES for quantized in (False, True)}
    assert sum(path.stat().st_size for path in FILES) < 1_000_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_worker_matches(path: Path, tmp_path: Path) -> None:
    due = golden.read(path)
    model = due.recipe.write(tmp_path / "model.gguf")
    gaps = golden.gaps(due, golden.run_worker(due, model))
    assert over(gaps, free_bound(due.recipe.architecture)) == []
    # two requests, every layer, prompts longer than gpt-oss's window, decode steps: none of it is empty
    assert {gap.request for gap in gaps} == {"first", "second"}
    assert {gap.place for gap in gaps} >= {(-1, "embd"), (0, "kqv_out"), (1, "l_out"), (-1, LOGITS)}
    assert len(due.work[0].prompt) > 16
    assert len(due.work[0].decode) > 0
    assert {"package", "commit", "settings"} <= due.reference.keys()


def sound(name: str) -> Golden:
    return golden.read(next(path for path in FILES if path.stem == name))


def test_another_file_is_refused(tmp_path: Path) -> None:
    due = sound("llama-f32")
    with pytest.raises(IncomparableError, match="bytes have changed"):
        golden.run_worker(due, miniatures.write(tmp_path / "other.gguf", "llama", seed=1))


def test_a_wrong_model_is_seen_from_where_it_is_wrong(tmp_path: Path) -> None:
    due = sound("llama-f32")
    patch = Patch(due.recipe.write(tmp_path / "sound.gguf"))
    other_pairing("blk.1.attn_k.weight", 2, patch)
    broken = patch.write(tmp_path / "broken.gguf", "llama")
    due.model_sha256 = sha256(broken)
    wrong = {gap.place for gap in over(golden.gaps(due, golden.run_worker(due, broken)), free_bound("llama"))}
    assert {(1, "Kpre"), (1, "kqv_out"), (-1, LOGITS)} <= wrong
    assert not wrong & {(-1, "embd"), (0, "l_out"), (1, "Qpre"), (1, "Vcur")}


def test_the_smallest_difference_that_the_bound_allows_not_is_seen() -> None:
    values = np.random.default_rng(0).standard_normal((28, 256)).astype(np.float32)
    kept = golden.summarize(values)
    for size, seen in ((1e-6, False), (1e-4, True)):  # NMSE 1e-12 and 1e-8 beside the bound of 1e-10
        noise = np.random.default_rng(1).standard_normal(values.shape).astype(np.float32)
        other = golden.summarize(values + np.float32(size) * noise)
        assert (nmse(kept.projected, other.projected) > 1e-10) == seen


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    due = sound("gpt-oss-mxfp4")
    path = golden.write(due, tmp_path)
    assert path.read_bytes() == next(file for file in FILES if file.stem == "gpt-oss-mxfp4").read_bytes()
    path.write_text(path.read_text(encoding="ascii").replace('"schema":1', '"schema":2'), encoding="ascii")
    with pytest.raises(IncomparableError, match="schema 2"):
        golden.read(path)
