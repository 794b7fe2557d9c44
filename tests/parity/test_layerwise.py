"""A model taken apart layer by layer computes what the whole model computes, bit for bit, on both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from m0_models import miniatures
from m0_models.scan import Scan
from m0_parity import llamacpp
from m0_parity.capture import CONTEXT, Work, WorkerSettings, record_llamacpp, record_worker, workload
from m0_parity.compare import ROW, Cell, IncomparableError
from m0_parity.layerwise.bounds import Bounds, Heads, largest_score, score_rounding, sum_rounding
from m0_parity.layerwise.lockstep import Lockstep
from m0_parity.layerwise.reference import ReferenceChain
from m0_parity.layerwise.slices import Slices
from m0_parity.layerwise.sweep import Sweep
from m0_parity.names import LOGITS
from m0_parity.recording import Recording, Request, Rows
from m0_parity.twin import write_twin
from m0_worker.adapters import Options, load_adapter
from m0_worker.devices import open_device
from m0_worker.gguf import GgufFile

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.shapes import Architecture

MODELS: list[tuple[Architecture, str, dict[str, Any]]] = [
    ("llama", "Q4_0", {"rope_freqs": True}),
    ("qwen2", "Q4_K_M", {}),
    ("qwen2", "Q8_0", {"tied": True}),
    ("phi3", "F32", {"long_rope": 256, "context": 4096}),
    ("gpt2", "Q4_0", {}),
    ("gpt-oss", "MXFP4", {"layers": 4}),
]


@pytest.mark.parametrize(("architecture", "quant", "changes"), MODELS)
def test_llamacpp_computes_the_same_bits_in_a_layer_alone(
    tmp_path: Path, architecture: Architecture, quant: str, changes: dict[str, Any]
) -> None:
    model = miniatures.write(tmp_path / "model.gguf", architecture, quant, seed=3, **changes)
    work = workload(320, length=300, decode=3)
    whole = record_llamacpp(write_twin(model, tmp_path / "twin.gguf"), work)
    slices = Slices(Scan(model), tmp_path / "layer.gguf")
    chain = ReferenceChain(slices, work, llamacpp.Settings(), CONTEXT)
    seen = 0
    for layer in range(slices.layers + 1):
        for request in chain.layer(layer) if layer < slices.layers else chain.head():
            for place, rows in request.rows.items():
                assert np.array_equal(rows.values, whole.requests[request.id].rows[place].values), place
                seen += 1
    assert seen == sum(len(request.rows) for request in whole)


def test_the_output_matrix_is_cut_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = miniatures.write(tmp_path / "model.gguf", "llama", "Q4_0", seed=3)
    work = workload(320, length=20, decode=1)
    whole = record_llamacpp(write_twin(model, tmp_path / "twin.gguf"), work)
    slices = Slices(Scan(model), tmp_path / "layer.gguf")
    assert slices.head_rows() == [slice(0, 320)]
    pieces = [slice(0, 100), slice(100, 300), slice(300, 320)]
    monkeypatch.setattr(slices, "head_rows", lambda: pieces)
    chain = ReferenceChain(slices, work, llamacpp.Settings(), CONTEXT)
    for layer in range(slices.layers):
        chain.layer(layer)
    told: list[float] = []
    for request in chain.head(told.append):
        assert np.array_equal(request.logits().values, whole.requests[request.id].logits().values)
    assert told == [pytest.approx(share) for share in (100 / 320, 300 / 320, 1.0)]


@pytest.mark.parametrize(("architecture", "quant", "changes"), MODELS)
def test_the_worker_computes_the_same_bits_in_lockstep(
    tmp_path: Path, architecture: Architecture, quant: str, changes: dict[str, Any]
) -> None:
    model = miniatures.write(tmp_path / "model.gguf", architecture, quant, seed=3, **changes)
    work = workload(320, length=300, decode=3)  # three passes of the prompt
    whole = record_worker(model, work)
    device = open_device("cpu", 0)
    seen = 0
    with GgufFile.open(model) as gguf:
        adapter = load_adapter(gguf, device, Options(CONTEXT, "f32"), lambda _: None)
        with Lockstep(adapter, device, work) as steps:
            for layer in range(changes.get("layers", 2)):
                for request in steps.layer(layer):
                    for place, rows in request.rows.items():
                        assert np.array_equal(rows.values, whole.requests[request.id].rows[place].values), place
                        seen += len(rows.values)
            for request, at in steps.head():
                for place, rows in request.rows.items():
                    due = whole.requests[request.id].rows[place].values[at : at + len(rows.values)]
                    assert np.array_equal(rows.values, due), place
                    seen += len(rows.values)
    assert seen == sum(len(rows.values) for request in whole for rows in request.rows.values())


def _cell(nmse: float, rows: list[float]) -> Cell:
    return Cell("first", (0, "l_out"), nmse, 0.0, 1.0, np.arange(len(rows)), np.array(rows))


def test_one_position_cannot_hide_behind_the_size_of_another() -> None:
    """Position 0 of a trained model holds values that outweigh all others: its error alone would be the NMSE."""
    assert _cell(1e-13, [1e-13, 1e-11]).excess(1e-10) < 1
    assert _cell(1e-13, [1e-13, 1.1 * ROW * 1e-10]).excess(1e-10) > 1
    assert _cell(0.0, [0.0]).excess(0.0) == 0
    assert _cell(1e-30, [1e-30]).excess(0.0) == np.inf
    assert _cell(np.inf, [np.inf]).excess(1.0) == np.inf


def _layer(scores: float) -> Recording:
    q = np.zeros((3, 128), np.float32)  # two heads of 64 that share one key head
    k = np.zeros((3, 64), np.float32)
    q[0, 64], k[1, 0], k[0, 0] = 8 * scores, 1e6, -1.0  # the first token must not look at the second
    rows = {(0, name): Rows(np.arange(3), values, values.shape[1]) for name, values in (("Qcur", q), ("Kcur", k))}
    wide = np.zeros((3, 8960), np.float32)
    rows[0, "ffn_swiglu"] = Rows(np.arange(3), wide, 8960)
    return Recording({}, {"first": Request("first", [1, 2, 3], 3, rows)})


def test_bounds_follow_the_scores_and_the_depth_of_the_reference() -> None:
    heads = Heads(64, 0.125)
    rows = _layer(1213.0).requests["first"].rows
    assert largest_score(rows[0, "Qcur"].values, rows[0, "Kcur"].values, heads) == pytest.approx(1213)
    mild, sharp = Bounds(1e-10, heads, gelu_table=False), Bounds(1e-10, heads, gelu_table=False)
    mild.learn(0, _layer(20.0))
    sharp.learn(0, _layer(1213.0))
    assert mild.local("first", (0, "kqv_out")) == 3e-11
    assert mild.free("first", (0, "l_out")) == 1e-10
    assert (
        sharp.local("first", (0, "kqv_out")) == pytest.approx(score_rounding(1213)) == pytest.approx(1.3e-9, rel=0.02)
    )
    assert sharp.free("first", (0, "l_out")) == pytest.approx(10 * score_rounding(1213))
    assert sharp.free("first", (-1, LOGITS)) == sharp.free("first", (0, "l_out"))
    for layer in range(1, 24):
        mild._so_far["first", layer], mild.scores[layer] = 0.0, 20.0
    assert mild.free("first", (7, "l_out")) == 1e-10
    assert mild.free("first", (23, "l_out")) == mild.free("first", (-1, LOGITS)) == pytest.approx(3e-10)
    assert sharp.free("first", (-1, "embd")) == 1e-10
    assert sharp.local("first", (0, "Vcur")) == mild.local("first", (0, "Vcur")) == 3e-12
    assert sum_rounding(3000) < 3e-12 < sum_rounding(8960) < 1e-11


def test_a_difference_at_one_position_behind_a_massive_one_is_found(tmp_path: Path) -> None:
    """One row of the embeddings is a thousand times the others; the worker errs at another token only."""
    from m0_parity.change import Patch  # noqa: PLC0415  # used here alone

    sound = miniatures.write(tmp_path / "sound.gguf", "llama", "F32", seed=3)
    patch = Patch(sound)
    patch.values("token_embd.weight")[7] *= 3e4
    sound = patch.write(tmp_path / "massive.gguf", "llama")
    patch = Patch(sound)
    patch.values("token_embd.weight")[9] *= np.float32(1.0001)
    broken = patch.write(tmp_path / "broken.gguf", "llama")
    work = [Work("first", (7, *range(20, 40), 9), (12,))]
    settings = replace(WorkerSettings(), context=256)
    clean = Sweep(sound, work, settings, scratch=tmp_path, base=1e-10).run()
    assert clean.divergence is None
    found = Sweep(broken, work, settings, scratch=tmp_path, base=1e-10, sound=sound).run()
    assert found.divergence is not None
    assert found.divergence.place == (-1, "embd")
    assert found.divergence.position == 21
    l_out = next(c for c in found.comparison.cells if c.place == (0, "l_out"))
    assert l_out.nmse < 1e-10 < l_out.worst_row


def test_a_damaged_reference_ends_the_sweep_unless_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = miniatures.write(tmp_path / "model.gguf", "llama", "F32", seed=3)
    work, settings = workload(320, length=20, decode=1), replace(WorkerSettings(), context=256)
    honest = ReferenceChain.layer

    def damaged(chain: ReferenceChain, layer: int) -> Recording:
        recording = honest(chain, layer)
        recording.requests["first"].rows[layer, "Vcur"].values[:, 5] = 0.25
        return recording

    monkeypatch.setattr(ReferenceChain, "layer", damaged)
    with pytest.raises(IncomparableError, match=r"Vcur of layer 0: index 5 is exactly .* --trust-reference"):
        Sweep(model, work, settings, scratch=tmp_path, base=1e-10).run()
    found = Sweep(model, work, settings, scratch=tmp_path, base=1e-10, trust=True).run()
    assert found.divergence is not None
    assert found.divergence.place == (0, "Vcur")


def test_a_brief_sweep_ends_at_the_first_mistake(tmp_path: Path) -> None:
    from m0_parity.change import Patch  # noqa: PLC0415  # used here alone

    sound = miniatures.write(tmp_path / "sound.gguf", "llama", "F32", seed=3, layers=4)
    patch = Patch(sound)
    patch.values("blk.1.attn_v.weight")[5] = 0
    broken = patch.write(tmp_path / "broken.gguf", "llama")
    work, settings = workload(320, length=20, decode=1), replace(WorkerSettings(), context=256)
    told: list[str] = []
    whole = Sweep(broken, work, settings, scratch=tmp_path, base=1e-10, sound=sound, tell=told.append).run()
    brief = Sweep(broken, work, settings, scratch=tmp_path, base=1e-10, sound=sound, brief=True).run()
    assert (whole.layers, brief.layers) == (4, 2)
    assert brief.divergence is not None
    assert whole.divergence is not None
    assert brief.divergence.sentence() == whole.divergence.sentence()
    assert brief.divergence.layer_replayed > 1e-3
    assert told[0].startswith("  layer 1 of 4, ")
    assert "s to go" in told[0]
    assert told[-1].startswith("  the layers are done, now the logits")
