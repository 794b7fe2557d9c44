"""One tensor changed, everything else as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from m0_models import altered, miniatures
from m0_models.scan import Scan

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.shapes import Architecture


@pytest.mark.parametrize(
    ("architecture", "quant", "name"),
    [("llama", "Q4_K_M", "blk.1.ffn_down.weight"), ("gpt-oss", "MXFP4", "blk.1.ffn_down_exps.weight")],
)
def test_one_tensor_is_changed(tmp_path: Path, architecture: Architecture, quant: str, name: str) -> None:
    source = miniatures.write(tmp_path / "model.gguf", architecture, quant)
    sound = Scan(source)
    zero, missing = tmp_path / "zero.gguf", tmp_path / "missing.gguf"
    assert altered.zeroed(source, zero) == altered.renamed(source, missing) == name
    assert not Scan(zero).raw(name).any()
    assert sound.raw(name).any()
    assert set(sound.tensors) - set(Scan(missing).tensors) == {name}
    for other in (zero, missing):
        changed = Scan(other)
        assert changed.metadata == sound.metadata
        for kept in sound.tensors.keys() - {name}:
            assert changed.tensors[kept] == sound.tensors[kept]
            assert (changed.raw(kept) == sound.raw(kept)).all()
