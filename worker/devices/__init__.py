"""The processors that can run a model: ``cuda`` for the spec, ``cpu`` for CI and debugging."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.devices.interface import Device


def open_device(kind: str, index: int = 0, *, memory_limit: int | None = None) -> Device:
    """Open a device.

    Args:
        kind: ``cuda`` or ``cpu``.
        index: among the devices of that kind.
        memory_limit: bytes it may use at most; by default what is free.

    Raises:
        DeviceError: no such device; the message names the cure.
    """
    # Imported here: a CPU worker must start without CuPy, and a CUDA worker pays for neither twice.
    if kind == "cuda":
        from worker.devices.cuda import CudaDevice  # noqa: PLC0415

        return CudaDevice(index, memory_limit=memory_limit)
    from worker.devices.cpu import CpuDevice  # noqa: PLC0415

    return CpuDevice(index, memory_limit=memory_limit)
