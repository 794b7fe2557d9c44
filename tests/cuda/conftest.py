"""Tests that need CuPy and, but for those that only compile, an NVIDIA device; skipped elsewhere, and they say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_worker.devices.cuda import CudaDevice


COMPILE_ONLY = {"test_prepare.py", "test_registers.py"}


def _why_not() -> tuple[str | None, str | None]:
    """Why tests cannot compile here, and why they cannot run."""
    try:
        from m0_worker.devices.cuda import driver  # noqa: PLC0415 - CuPy may be missing
    except ImportError:
        return ("CuPy is not installed",) * 2
    return None, None if driver.count() else "this machine has no CUDA device"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    uncompiled, unrun = _why_not()
    for item in items:
        if "tests/cuda" in item.path.as_posix():
            reason = uncompiled if item.path.name in COMPILE_ONLY else unrun
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def cuda() -> Iterator[CudaDevice]:
    from m0_worker.devices import open_device  # noqa: PLC0415 - with the driver only

    device: Any = open_device("cuda")
    yield device
    device.close()
