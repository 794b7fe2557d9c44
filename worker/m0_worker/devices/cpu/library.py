"""Compiled kernels for large models: whether this machine can have them, and where they are kept.

numba takes a third of a second to import and memory of its own, so nothing here imports it before a model asks for it.
Machine code is kept on disk in a folder named after all that it depends on: these sources, numba, and the processor.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from m0_worker.devices.kernel_folder import kernel_folder
from m0_worker.gguf import GgmlType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from m0_worker.devices.cpu.compiled.matrix import Kernels

_SOURCES = Path(__file__).parent / "compiled"
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processor time, and the period they are for
_MOST_THREADS = 16  # more only wait for the same memory
_NEEDED = ("avx2", "f16c", "fma")  # without them LLVM would call functions that are not there, or slow ones


class KernelsUnavailableError(Exception):
    """Compiled kernels cannot be had here; the message says why, and the cure."""


def n_cores() -> int:
    """Cores that this process may use: those it is bound to, and no more than its control group pays for."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        paid = bound if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        paid = bound
    return min(bound, paid)


def load(kinds: Iterable[GgmlType], n_threads: int | None = None) -> Kernels:
    """Load or compile what a model of these storage types needs.

    Args:
        kinds: the storage types of its matrices.
        n_threads: threads for products; by default the cores that this process may use.

    Raises:
        KernelsUnavailableError: no numba, or a processor without the instructions.
    """
    if find_spec("numba") is None:
        raise KernelsUnavailableError("numba is not installed: install the [cpu] extra for compiled kernels")
    import numba  # noqa: PLC0415 - takes a third of a second

    machine = platform.machine().lower()
    if machine in {"x86_64", "amd64"}:
        from llvmlite.binding import get_host_cpu_features  # noqa: PLC0415 - comes with numba

        features = get_host_cpu_features()
        missing = [name for name in _NEEDED if not features.get(name)]
        if missing:
            raise KernelsUnavailableError(f"this processor lacks {', '.join(missing)}, which compiled kernels need")
    elif machine not in {"aarch64", "arm64"}:
        raise KernelsUnavailableError(f"there are no compiled kernels for processors of the kind {machine}")
    if numba.config.DISABLE_JIT:
        raise KernelsUnavailableError("NUMBA_DISABLE_JIT is set: unset it for compiled kernels")
    before = numba.config.CACHE_DIR
    kept = folder()
    numba.config.CACHE_DIR = "" if kept is None else os.fspath(kept)  # kernels are kept where it names a folder
    try:
        from m0_worker.devices.cpu.compiled.matrix import Kernels  # noqa: PLC0415 - imports numba

        return Kernels(kinds, min(n_threads or n_cores(), _MOST_THREADS))
    finally:
        numba.config.CACHE_DIR = before


def prepare() -> int:
    """Compile every kernel, for `m0-worker --prepare`; the exit code: 1 where there are none or they cannot be kept."""
    kept = folder()
    begun = time.perf_counter()
    try:
        load(GgmlType, 1).close()
    except KernelsUnavailableError as error:
        sys.stderr.write(f"m0-worker: no kernels were compiled: {error}\n")
        return 1
    if kept is None:
        sys.stderr.write("m0-worker: kernels cannot be kept: give a home, or XDG_CACHE_HOME, that can be written\n")
        return 1
    sys.stdout.write(f"m0-worker: kernels for this processor are in {kept} ({time.perf_counter() - begun:.1f} s)\n")
    return 0


def folder() -> Path | None:
    """Where machine code of these very sources is kept, or None; numba itself tells processors apart."""
    base = kernel_folder()
    if base is None:
        return None
    digest = hashlib.sha256(version("numba").encode())
    for source in sorted(_SOURCES.glob("*.py")):
        digest.update(source.read_bytes())
    kept = base / f"cpu-{digest.hexdigest()[:16]}"
    with suppress(OSError):
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=kept):  # numba asks the same of its folder, and fails without
            return kept
    return None
