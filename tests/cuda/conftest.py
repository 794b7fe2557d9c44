"""Tests that need an NVIDIA device; elsewhere they are skipped, and say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.devices.cuda import CudaDevice


def _why_not() -> str | None:
    try:
        from worker.devices.cuda import driver  # noqa: PLC0415 - CuPy may be missing
    except ImportError:
        return "CuPy is not installed"
    return None if driver.count() else "this machine has no CUDA device"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = _why_not()
    if reason:
        for item in items:
            if "tests/cuda" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def cuda() -> Iterator[CudaDevice]:
    from worker.devices import open_device  # noqa: PLC0415 - with the driver only

    device: Any = open_device("cuda")
    yield device
    device.close()
