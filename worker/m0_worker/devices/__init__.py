"""The processors that can run a model: ``cuda`` for the spec, ``cpu`` for CI and debugging."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m0_worker.devices.interface import Device


def open_device(
    kind: str,
    index: int = 0,
    *,
    memory_limit: int | None = None,
    dense_budget: int | None = None,
    threads: int | None = None,
) -> Device:
    """Open a device.

    Args:
        kind: ``cuda`` or ``cpu``.
        index: among the devices of that kind.
        memory_limit: bytes it may use at most; by default what is free.
        dense_budget: CPU only: bytes of weights that may be kept in float32, which is faster than stored blocks.
        threads: CPU only: threads for the products of large models; by default the cores this process may use.

    Raises:
        DeviceError: no such device; the message names the cure.
    """
    # Imported here: a CPU worker must start without CuPy, and a CUDA worker pays for neither twice.
    if kind == "cuda":
        from m0_worker.devices.cuda import CudaDevice  # noqa: PLC0415 - see above

        return CudaDevice(index, memory_limit=memory_limit)
    from m0_worker.devices.cpu import DENSE_BUDGET, CpuDevice  # noqa: PLC0415 - see above

    dense_budget = DENSE_BUDGET if dense_budget is None else dense_budget
    return CpuDevice(index, memory_limit=memory_limit, dense_budget=dense_budget, threads=threads)
