"""The second reader finds what the worker's reader and the gguf package find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from m0_models import miniatures
from m0_models.scan import Scan
from m0_worker.gguf import GgufFile

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.shapes import Architecture


@pytest.mark.parametrize(
    ("architecture", "quant", "changes"),
    [
        ("qwen2", "Q4_K_M", {}),
        ("gpt-oss", "MXFP4", {"layers": 4}),
        ("phi3", "F16", {"long_rope": 256, "context": 4096}),
    ],
)
def test_finds_every_tensor_where_others_find_it(
    tmp_path: Path, architecture: Architecture, quant: str, changes: dict[str, Any]
) -> None:
    path = miniatures.write(tmp_path / "model.gguf", architecture, quant, **changes)
    scan = Scan(path)
    assert scan.architecture == architecture
    others = {t.name: t for t in gguf.GGUFReader(path).tensors}
    assert list(scan.tensors) == list(others)
    with GgufFile.open(path) as file:
        for name, entry in scan.tensors.items():
            assert entry.type == others[name].tensor_type.name == file.tensors[name].type.name
            assert entry.shape == file.tensors[name].shape
            assert entry.offset == others[name].data_offset == file.tensors[name].offset
            assert np.array_equal(scan.raw(name).reshape(-1), file.raw(name))
        for key, value in scan.metadata.items():
            assert value == file.metadata[key], key
        for key, length in scan.lengths.items():
            found = file.metadata[key]
            assert isinstance(found, list)
            assert len(found) == length


def test_reads_rows(tmp_path: Path) -> None:
    scan = Scan(miniatures.write(tmp_path / "model.gguf", "gpt-oss", "MXFP4"))
    for name in ("token_embd.weight", "blk.0.ffn_down_exps.weight"):
        whole = scan.raw(name)
        assert np.array_equal(scan.raw(name, slice(3, 6)), whole[3:6])
        assert np.array_equal(scan.raw(name, np.array([5, 0, 5])), whole[[5, 0, 5]])
    assert scan.raw("output_norm.weight").shape == (4 * 256,)
