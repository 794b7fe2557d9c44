from __future__ import annotations

from typing import TYPE_CHECKING

from m0_models import oversized
from m0_worker.gguf import GgufFile

if TYPE_CHECKING:
    from pathlib import Path


def test_holds_what_it_says_and_takes_no_disk_space(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    total = oversized.write(path, 20 << 30)
    assert total >= 20 << 30
    assert path.stat().st_blocks * 512 < 64 << 20
    gguf = GgufFile.open(path)
    try:
        assert sum(tensor.nbytes for tensor in gguf.tensors.values()) == total
    finally:
        gguf.close()


def test_terabytes_stay_under_ten_thousand_tensors(tmp_path: Path) -> None:
    path = tmp_path / "huge.gguf"
    assert oversized.write(path, 3 << 40) >= 3 << 40
    gguf = GgufFile.open(path)
    try:
        assert len(gguf.tensors) < 10_000
    finally:
        gguf.close()
