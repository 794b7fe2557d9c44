"""Figures of the CPU bench: ratios are of the same round, memory leaves the mapped model out."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

import pytest

from bench.engines import Row
from bench.real_worker import above_file_bytes

if TYPE_CHECKING:
    from pathlib import Path


def test_a_ratio_is_of_the_same_round() -> None:
    row = Row("decode", 2, ours=[10.0, 30.0, 20.0], theirs=[20.0, 30.0, 80.0])
    assert row.ratios == [0.5, 1.0, 0.25]
    assert row.cells() == ["decode", "2", "20.0 (10.0 to 30.0)", "30.0 (20.0 to 80.0)", "0.50 (0.25 to 1.00)"]
    with pytest.raises(ValueError, match="zip"):
        _ = Row("decode", 2, ours=[1.0, 2.0], theirs=[1.0]).ratios


def test_memory_above_a_mapped_file(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    size = 32 << 20
    file.write_bytes(bytes(size))
    before = above_file_bytes(os.getpid(), file)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[at] for at in range(0, size, 4096)) == 0  # every page is resident now
        with_file = above_file_bytes(os.getpid(), tmp_path / "another")
        without = above_file_bytes(os.getpid(), file)
    assert with_file - without > 0.9 * size
    assert abs(without - before) < size // 4
