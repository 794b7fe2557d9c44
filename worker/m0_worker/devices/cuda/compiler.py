"""CUDA source to machine code, in threads beside the loading of weights, kept on disk for the next start.

NVRTC takes one to three seconds for each of a model's modules. They are compiled at the same time, only those that the
model's storage types need, and a start that finds them all on disk compiles nothing.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from m0_worker.devices.kernel_folder import kernel_folder
from m0_worker.errors import CudaStatus, DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

_THREADS = 8
_LOADING = Lock()
"""The first call loads NVRTC and then its built-in functions; a thread that compiles in between does not find those."""


PREPARED = Path(sys.prefix) / "share" / "m0-worker" / "kernels"
"""Machine code that came with the installation: nobody writes there while a worker runs."""


_ahead: dict[tuple[str, tuple[str, ...], int, bool], Future[bytes]] = {}
"""What was begun before anybody asked for it; whoever asks first takes it."""
_begun: WeakSet[Future[bytes]] = WeakSet()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), thread_name_prefix="nvrtc")


def start(source: str, options: Sequence[str], capability: int, *, exact: bool = False) -> Future[bytes]:
    """Begin to compile for a device of this compute capability (90 for 9.0).

    Args:
        source: CUDA C++ with its includes put in place.
        options: NVRTC's, without the architecture.
        capability: of the device.
        exact: allow instructions that only this very architecture has (sm_90a).

    Returns:
        What to wait on: a cubin, or PTX where NVRTC is older than the device. Its ``result()`` raises DeviceError.
    """
    job = (source, tuple(options), capability, exact)
    begun = _ahead.pop(job, None)
    return begun if begun is not None else _begin(*job)


def begin(source: str, options: Sequence[str], capability: int, *, exact: bool = False) -> Future[bytes]:
    """Begin to compile what will be asked of :func:`start` later; the arguments are the same."""
    job = (source, tuple(options), capability, exact)
    begun = _ahead[job] = _ahead.get(job) or _begin(*job)
    return begun


def busy() -> bool:
    """Whether something compiles: a process that ends as usual waits for that, for NVRTC cannot be stopped."""
    return any(not future.done() for future in _begun)


def _begin(*job: Any) -> Future[bytes]:
    future = _pool().submit(_machine_code, *job)
    _begun.add(future)
    return future


def _machine_code(source: str, options: tuple[str, ...], capability: int, exact: bool) -> bytes:
    from cupy_backends.cuda.libs import nvrtc  # noqa: PLC0415 - loads the library

    try:
        with _LOADING:
            version, known = nvrtc.getVersion(), nvrtc.getSupportedArchs()
    except Exception as error:
        raise DeviceError(f"NVRTC cannot be loaded: {error}; install CuPy's CUDA libraries") from error
    if capability in known:
        target = f"sm_{capability}a" if exact else f"sm_{capability}"
    else:
        target = f"compute_{max(arch for arch in known if arch <= capability)}"
    options = (*options, f"-arch={target}")
    name = hashlib.sha256("\0".join([source, *options, str(version)]).encode()).hexdigest()
    kept = kernel_folder()
    for place in (PREPARED, kept):
        if place is not None:
            with suppress(OSError):
                return (place / name).read_bytes()
    program = nvrtc.createProgram(source, "kernels.cu", [], [])
    try:
        nvrtc.compileProgram(program, options)
        code: bytes = nvrtc.getCUBIN(program) if target.startswith("sm_") else nvrtc.getPTX(program)
    except nvrtc.NVRTCError as error:
        log = " ".join(nvrtc.getProgramLog(program).split())
        raise DeviceError(f"a kernel does not compile: {error}: {log:.500}", status=CudaStatus.UNKNOWN) from error
    finally:
        nvrtc.destroyProgram(program)
    if kept is not None:
        _keep(kept / name, code)
    return code


def _keep(path: Path, code: bytes) -> None:
    """Write a file in one step; a folder that cannot be written only costs the next start its time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(code)
            os.fchmod(file.fileno(), 0o644)  # an image is built by one user and run by another
        Path(name).replace(path)
