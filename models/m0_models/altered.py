"""Copies of a GGUF file of any size with one tensor changed: what a worker that computes must notice."""

from __future__ import annotations

import re
import shutil
import struct
from typing import TYPE_CHECKING, Final

from m0_models.scan import Scan

if TYPE_CHECKING:
    from pathlib import Path

_LAYER: Final = re.compile(r"^blk\.(\d+)\.")
_DOWN: Final = ("ffn_down.weight", "ffn_down_exps.weight")


def middle_tensor(scan: Scan) -> str:
    """The matrix that ends the feed-forward block in the middle of the model: everything behind it depends on it.

    Raises:
        KeyError: the file has no such layer.
    """
    layers = 1 + max((int(m[1]) for name in scan.tensors if (m := _LAYER.match(name))), default=0)
    names = [f"blk.{layers // 2}.{rest}" for rest in _DOWN]
    return next((name for name in names if name in scan.tensors), names[0])


def zeroed(source: Path, target: Path) -> str:
    """Write a copy whose middle tensor is all zero bytes, which is zero in every storage type; returns its name."""
    scan = Scan(source)
    name = middle_tensor(scan)
    entry = scan.tensors[name]
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        file.seek(entry.offset)
        file.write(bytes(entry.nbytes))
    return name


def renamed(source: Path, target: Path) -> str:
    """Write a copy whose middle tensor has another name of the same length, so that it is missing; returns its name."""
    scan = Scan(source)
    name = middle_tensor(scan)
    start = min(entry.offset for entry in scan.tensors.values())
    record = struct.pack("<Q", len(name)) + name.encode()
    shutil.copyfile(source, target)
    with target.open("r+b") as file:
        at = file.read(start).index(record)
        file.seek(at + 8)
        file.write(b"x" * len(name))
    return name
