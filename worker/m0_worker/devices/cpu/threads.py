"""How many threads the BLAS below NumPy uses: one for small models, whose products end before a second one is awake."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

# NumPy's wheels carry OpenBLAS with these prefixes and suffixes.
_SYMBOLS = ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads")


@functools.cache
def _setter() -> Callable[[int], object] | None:
    folders = (Path(np.__file__).parent.parent / "numpy.libs", Path(np.__file__).parent / ".dylibs")
    for library in sorted(file for folder in folders for file in folder.glob("*openblas*")):
        loaded = ctypes.CDLL(str(library))
        for symbol in _SYMBOLS:
            if hasattr(loaded, symbol):
                setter = getattr(loaded, symbol)
                setter.argtypes, setter.restype = [ctypes.c_int], None
                return setter  # type: ignore[no-any-return]  # a ctypes function
    return None


def set_blas_threads(n: int | None) -> None:
    """Use n threads, or with None all cores but one. Other BLAS builds keep their own setting.

    One core is left to whoever talks to the worker: OpenBLAS's threads spin while they wait for one another, and a
    thread that has to share its core then costs thirty times what it would have saved.
    """
    setter = _setter()
    if setter is not None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        setter(n or max(1, cores - 1))
