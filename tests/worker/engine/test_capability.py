"""Devices that the CUDA kernels refuse."""

from __future__ import annotations

import pytest
from m0_worker.devices.cuda_capability import require_hopper
from m0_worker.errors import CudaStatus, DeviceError


@pytest.mark.parametrize("capability", [90, 100, 120])
def test_hopper_and_newer_are_taken(capability: int) -> None:
    require_hopper(capability, index=0, name="a device")


def test_an_older_device_is_refused_with_what_where_and_cure() -> None:
    with pytest.raises(DeviceError, match=r"device 1 \(Old One\).*8\.6.*9\.0.*--device cpu") as caught:
        require_hopper(86, index=1, name="Old One")
    assert caught.value.status == CudaStatus.INVALID_DEVICE
