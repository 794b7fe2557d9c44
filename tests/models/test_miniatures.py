"""Miniatures, quantizers, recipes and benchmark shapes, shown on llama.cpp where it can tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from m0_models import bulk, layout, miniatures
from m0_models.__main__ import main
from m0_models.container import FILE_TYPES
from m0_models.quantize import TYPES, dequantize, quantize
from m0_models.recipes import tensor_type
from m0_models.shapes import ARCHITECTURES, GPT_OSS_20B, PHI_3_MINI_4K, QWEN2_5_0_5B, Architecture, miniature
from m0_parity.llamacpp import Context, Model
from m0_parity.llamacpp.blocks import dequantize_row
from m0_parity.llamacpp.blocks import quantize as ggml_quantize

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = [recipe for recipe in miniatures.zoo() if recipe.changes]


def logits(path: Path, count: int = 40) -> np.ndarray:
    with Model(path) as model, Context(model, 256) as context:
        return context.decode(np.random.default_rng(0).integers(0, 256, count).tolist())


@pytest.mark.parametrize("quant", FILE_TYPES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_llamacpp_runs_every_miniature(tmp_path: Path, architecture: Architecture, quant: str) -> None:
    rows = logits(miniatures.write(tmp_path / "model.gguf", architecture, quant))
    assert np.isfinite(rows).all()
    assert 2 < rows.std() < 4  # as spread as a trained model's


@pytest.mark.parametrize("recipe", OPTIONS, ids=lambda recipe: recipe.name)
def test_llamacpp_runs_every_option(tmp_path: Path, recipe: miniatures.Recipe) -> None:
    assert np.isfinite(logits(recipe.write(tmp_path / "model.gguf"))).all()


def test_equal_arguments_give_equal_bytes_and_other_seeds_other_weights(tmp_path: Path) -> None:
    a, b, c = (miniatures.write(tmp_path / f"{i}.gguf", "llama", "Q4_0", seed=s) for i, s in enumerate((0, 0, 1)))
    assert a.read_bytes() == b.read_bytes() != c.read_bytes()


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown architecture 'bert'"):
        miniatures.write(tmp_path / "model.gguf", "bert")  # type: ignore[arg-type]  # no architecture, on purpose
    with pytest.raises((ValueError, KeyError), match="Q3_K_XL"):
        miniatures.write(tmp_path / "model.gguf", "llama", "Q3_K_XL")
    with pytest.raises(TypeError, match="depth"):
        miniatures.write(tmp_path / "model.gguf", "llama", depth=3)


@pytest.mark.parametrize("kind", [t for t in TYPES if t not in {"F32", "F16", "BF16"}])
def test_ggml_decodes_our_blocks_and_they_are_nearly_as_good_as_its_own(kind: str) -> None:
    values = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
    ours = quantize(values, kind)
    decoded = dequantize_row(ours, kind).reshape(values.shape)
    assert np.array_equal(decoded, dequantize(ours, kind))
    theirs = dequantize_row(ggml_quantize(values, kind), kind).reshape(values.shape)
    assert np.square(decoded - values).sum() <= 1.3 * np.square(theirs - values).sum()


@pytest.mark.parametrize("kind", TYPES)
def test_zeros_stay_zeros(kind: str) -> None:
    zeros = np.zeros((2, 256), dtype=np.float32)
    assert not dequantize(quantize(zeros, kind), kind).any()


def types(shape: object, recipe: str) -> dict[str, str]:
    return {spec.name: tensor_type(recipe, spec, shape) for spec in layout.specs(shape)}  # type: ignore[arg-type]  # one of the shapes of tests


def test_q4_k_m_of_the_0_5b_shape_is_mostly_q5_0_and_q8_0() -> None:
    """896 is no multiple of 256: what the real file holds."""
    got = types(QWEN2_5_0_5B, "Q4_K_M")
    assert got["token_embd.weight"] == "Q8_0"
    assert "output.weight" not in got
    assert {got[f"blk.0.attn_{part}.weight"] for part in ("q", "k", "output")} == {"Q5_0"}
    assert (got["blk.0.attn_v.weight"], got["blk.4.attn_v.weight"]) == ("Q8_0", "Q5_0")
    assert (got["blk.0.ffn_down.weight"], got["blk.4.ffn_down.weight"]) == ("Q6_K", "Q4_K")
    assert Counter(got.values())["Q5_0"] > 100


def test_q4_k_m_of_phi_3_has_fused_q5_k() -> None:
    got = types(PHI_3_MINI_4K, "Q4_K_M")
    assert {got[f"blk.{i}.attn_qkv.weight"] for i in range(32)} == {"Q5_K"}
    assert got["output.weight"] == "Q6_K"
    assert got["blk.5.ffn_up.weight"] == "Q4_K"


def test_gpt_oss_has_mxfp4_experts_in_a_q8_0_rest() -> None:
    got = types(GPT_OSS_20B, "MXFP4")
    assert {kind for name, kind in got.items() if name.endswith("_exps.weight")} == {"MXFP4"}
    rest = {kind for name, kind in got.items() if name.endswith(".weight") and "exps" not in name}
    assert rest == {"Q8_0", "F32"}
    assert got["blk.0.ffn_gate_inp.weight"] == "F32"


@pytest.mark.parametrize(
    ("architecture", "quant"), [("qwen2", "Q4_K_M"), ("phi3", "Q4_K_M"), ("gpt-oss", "MXFP4"), ("llama", "Q6_K")]
)
def test_llamacpp_runs_a_file_of_bulk_blocks(tmp_path: Path, architecture: Architecture, quant: str) -> None:
    shape = replace(miniature(architecture), vocabulary=1024)
    path = bulk.write(tmp_path / "model.gguf", shape, quant)
    rows = logits(path)
    assert np.isfinite(rows).all()
    assert 1 < rows.std() < 6
    assert path.read_bytes() == bulk.write(tmp_path / "again.gguf", shape, quant).read_bytes()


def test_the_command_lists_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in ("script", "gpt-oss-mxfp4", "bad-magic", "qwen2.5-0.5b"))
    assert main(["write", "dice", str(tmp_path / "new" / "dice.gguf")]) == 0
    assert (tmp_path / "new" / "dice.json").exists()
    assert main(["write", "no-such", str(tmp_path / "x.gguf")]) == 2
