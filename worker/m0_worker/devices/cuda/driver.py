"""The thin edge to CuPy: everything untyped is behind this module.

Memory is plain cudaMalloc (no pool, no managed, no mapped host memory), so that the accounting is the truth and a freed
buffer is really free (M0-W-1010, M0-W-1011).
"""

from __future__ import annotations

import ctypes
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np
from cupy.cuda import runtime

from m0_worker.devices.cuda import compiler
from m0_worker.devices.cuda.types_header import TYPES_HEADER, types_header
from m0_worker.errors import CudaStatus, DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    Buffer = NDArray[Any]

KERNELS = Path(__file__).parent / "kernels"
_HEAP_LIMIT = 2  # cudaLimitMallocHeapSize
_PREFER_L1 = 2  # cudaFuncCachePreferL1
_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3  # cudaMemcpyKind
_DEVICE_MEMORY = 2  # cudaMemoryTypeDevice
# CUdevice_attribute: capability's two numbers, multiprocessors, shared memory that a block may ask for.
_CHIP = (75, 76, 16, 97)
_NOT_READY = 600  # cudaErrorNotReady

_STATUS = {
    2: CudaStatus.OUT_OF_MEMORY,
    100: CudaStatus.DEVICE_NOT_FOUND,
    101: CudaStatus.INVALID_DEVICE,
    719: CudaStatus.KERNEL_LAUNCH_FAILED,
    700: CudaStatus.KERNEL_LAUNCH_FAILED,
    720: CudaStatus.KERNEL_LAUNCH_FAILED,
}


class Errors:
    """Turns CUDA's errors inside a ``with`` block into DeviceError with the code of M0-W-1501."""

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, runtime.CUDARuntimeError | cupy.cuda.driver.CUDADriverError):
            status = _STATUS.get(int(error.status), CudaStatus.UNKNOWN)
            raise DeviceError(f"{self._doing}: {error}; restart the worker if it persists", status=status) from error


def count() -> int:
    """CUDA devices of this machine; 0 without a driver."""
    try:
        return int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError:
        return 0


def use(index: int) -> dict[str, Any]:
    """Make a device current, without a device heap, preferring L1; returns its properties (M0-W-1010, M0-W-1400).

    Raises:
        DeviceError: there is no such device, or it cannot be used.
    """
    found = count()
    if found == 0:
        raise DeviceError("the driver offers no CUDA device; choose --device cpu", status=CudaStatus.DEVICE_NOT_FOUND)
    if not 0 <= index < found:
        raise DeviceError(f"no CUDA device {index}; choose 0 to {found - 1}", status=CudaStatus.INVALID_DEVICE)
    with Errors(f"CUDA device {index} cannot be used"):
        library = _runtime_library()
        if library is not None:  # a context takes its time, in which CuPy would keep all other threads from running
            library.cudaSetDevice(index)
        runtime.setDevice(index)
        runtime.deviceSetLimit(_HEAP_LIMIT, 0)
        properties: dict[str, Any] = runtime.getDeviceProperties(index)
        if library is not None:  # CuPy has no wrapper for this
            library.cudaDeviceSetCacheConfig(_PREFER_L1)
    return properties


def _runtime_library() -> ctypes.CDLL | None:
    """The runtime library that CuPy loaded."""
    for name in ("libcudart.so.13", "libcudart.so.12", "libcudart.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def chip(index: int) -> tuple[int, int, int]:
    """Compute capability (90 for 9.0), multiprocessors, and shared memory that a block may ask for in bytes.

    The driver itself is asked: the device is not initialized by that, and need not be.

    Raises:
        DeviceError: there is no such device.
        OSError: there is no driver.
    """
    library, device, value = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_int()
    values = []
    if library.cuInit(0) or library.cuDeviceGet(ctypes.byref(device), index):
        raise DeviceError(f"no CUDA device {index}", status=CudaStatus.INVALID_DEVICE)
    for what in _CHIP:
        if library.cuDeviceGetAttribute(ctypes.byref(value), what, device):
            raise DeviceError(f"CUDA device {index} does not say what it is", status=CudaStatus.UNKNOWN)
        values.append(value.value)
    return 10 * values[0] + values[1], values[2], values[3]


def free_bytes() -> int:
    """Device memory that nobody uses."""
    return int(runtime.memGetInfo()[0])


def allocate(nbytes: int) -> int | None:
    """A device address, a multiple of 256, or None if there is no room."""
    try:
        return int(runtime.malloc(nbytes))
    except runtime.CUDARuntimeError as error:
        if int(error.status) == runtime.cudaErrorMemoryAllocation:
            return None
        raise


def free(address: int) -> None:
    """Give a buffer back."""
    runtime.free(address)


def is_device_memory(address: int) -> bool:
    """Whether an address is plain device memory without a host pointer (M0-W-1012)."""
    attributes = runtime.pointerGetAttributes(address)
    return int(attributes.type) == _DEVICE_MEMORY and not attributes.hostPointer


def clear(address: int, nbytes: int, stream: Any, value: int = 0) -> None:
    """Set every byte to zero or ``value``, in stream order."""
    runtime.memsetAsync(address, value, nbytes, stream.ptr)


def upload(address: int, data: Buffer, stream: Any = None) -> None:
    """Copy a contiguous host array to the device; without a stream, waits until it is there."""
    if stream is None:
        runtime.memcpy(address, data.ctypes.data, data.nbytes, _TO_DEVICE)
    else:
        runtime.memcpyAsync(address, data.ctypes.data, data.nbytes, _TO_DEVICE, stream.ptr)


def download(data: Buffer, address: int, stream: Any) -> None:
    """Copy into a contiguous host array, in stream order; it is valid once the stream is done."""
    runtime.memcpyAsync(data.ctypes.data, address, data.nbytes, _TO_HOST, stream.ptr)


def copy(to: int, source: int, nbytes: int, stream: Any) -> None:
    """Copy inside the device, in stream order."""
    runtime.memcpyAsync(to, source, nbytes, _ON_DEVICE, stream.ptr)


def pinned(dtype: np.dtype[Any], n: int) -> Buffer:
    """A small page-locked host array, the target of the copies that bring tokens to the host."""
    memory = cupy.cuda.alloc_pinned_memory(dtype.itemsize * n)
    array: Buffer = np.frombuffer(memory, dtype, n)
    array[:] = np.zeros(n, dtype)
    return array


def new_stream() -> Any:
    """A stream that does not wait for the default one."""
    return cupy.cuda.Stream(non_blocking=True)


def new_event() -> Any:
    """An event without timing."""
    return cupy.cuda.Event(disable_timing=True)


def finished(event: Any) -> bool:
    """Whether the device has passed an event; raises what went wrong before it."""
    status = int(runtime.eventQuery(event.ptr))
    if status not in {0, _NOT_READY}:
        raise runtime.CUDARuntimeError(status)
    return status == 0


def capture(stream: Any, launches: Callable[[], None]) -> Any:
    """A graph of what ``launches`` enqueues on the stream."""
    with stream:
        stream.begin_capture()
        launches()
        graph = stream.end_capture()
    graph.upload(stream)
    return graph


@functools.cache
def source(name: str) -> str:
    """A kernel file with its includes put in place, each once."""
    seen: set[str] = set()

    def lines(file: str) -> Iterator[str]:
        text = types_header() if file == TYPES_HEADER else (KERNELS / file).read_text(encoding="utf-8")
        for line in text.splitlines():
            found = re.fullmatch(r'#include "(.+)"', line)
            if not found:
                if line != "#pragma once":
                    yield line
            elif found[1] not in seen:
                seen.add(found[1])
                yield from lines(found[1])

    return "\n".join(lines(name)) + "\n"


def options(defines: Mapping[str, int]) -> tuple[str, ...]:
    """NVRTC's options for our kernels, but for the architecture."""
    macros = (f"-D{key}={value}ull" if value >> 31 else f"-D{key}={value}" for key, value in sorted(defines.items()))
    return ("-std=c++17", "-ftz=true", "-default-device", "-minimal", *macros)


def begin(name: str, defines: Mapping[str, int], capability: int, *, exact: bool = False) -> Future[bytes]:
    """Begin to compile what ``Kernels`` will ask for, before there is a device."""
    return compiler.begin(source(name), options(defines), capability, exact=exact)


class Kernels:
    """The kernels of one source file. They compile in the background; the first that is needed waits for them."""

    def __init__(
        self, name: str, defines: Mapping[str, int] | None = None, *, cooperative: bool = False, exact: bool = False
    ) -> None:
        self._code = compiler.start(source(name), options(defines or {}), capability(), exact=exact)
        self._cooperative = cooperative
        self._module: Any = None
        self._functions: dict[str, Any] = {}
        self._shared: dict[str, int] = {}

    @property
    def compiled(self) -> bool:
        """Whether ``load`` would not wait."""
        return self._code.done()

    def forget(self) -> None:
        """Do not begin to compile what was not begun."""
        self._code.cancel()

    def load(self) -> Any:
        """The module on the device, once it is compiled.

        Raises:
            DeviceError: it does not compile.
        """
        if self._module is None:
            module = cupy.cuda.function.Module()
            module.load(self._code.result())
            self._module = module
        return self._module

    def function(self, name: str, shared: int = 0) -> Any:
        """A kernel, allowed ``shared`` bytes of dynamic shared memory."""
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = self.load().get_function(name)
        if shared > 48 << 10 and self._shared.get(name, 0) < shared:
            cupy.cuda.driver.funcSetAttribute(
                function.ptr, cupy.cuda.driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared
            )
            self._shared[name] = shared
        return function

    def launch(
        self, name: str, grid: tuple[int, ...], block: int, arguments: Sequence[Any], stream: Any, *, shared: int = 0
    ) -> None:
        """Enqueue a kernel; arguments are addresses (int) and NumPy scalars."""
        self.function(name, shared)(grid, (block,), tuple(arguments), shared, stream, self._cooperative)


def capability() -> int:
    """Compute capability of the current device, 90 for 9.0."""
    return int(cupy.cuda.Device().compute_capability)


def synchronize() -> None:
    """Wait for everything on the device."""
    runtime.deviceSynchronize()


def reset() -> None:
    """Free whatever the process still holds on the device (M0-W-1401)."""
    runtime.deviceReset()


def runtime_version() -> str:
    """CUDA runtime version, as 13.0."""
    version = int(runtime.runtimeGetVersion())
    return f"{version // 1000}.{version % 1000 // 10}"
