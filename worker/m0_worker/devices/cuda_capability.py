"""Which NVIDIA devices the kernels run on."""

from __future__ import annotations

from typing import Final

from m0_worker.errors import CudaStatus, DeviceError

HOPPER: Final = 90
"""Compute capability 9.0: the decode step uses bulk copies to shared memory and their barriers."""


def require_hopper(capability: int, *, index: int, name: str) -> None:
    """Refuse a device that lacks what the decode step is made of.

    Args:
        capability: compute capability, 90 for 9.0.
        index: the device's number, for the message.
        name: the device's name, for the message.

    Raises:
        DeviceError: the device is older than Hopper.
    """
    if capability < HOPPER:
        raise DeviceError(
            f"CUDA device {index} ({name}) has compute capability {capability // 10}.{capability % 10}, the kernels "
            "need 9.0 (Hopper) or newer; choose another --gpu-device, or --device cpu",
            status=CudaStatus.INVALID_DEVICE,
        )
