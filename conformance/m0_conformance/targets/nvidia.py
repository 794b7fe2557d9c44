"""What NVIDIA's driver and the kernel say about a worker's memory, seen from outside the worker.

Device numbers come through NVML (the library behind nvidia-smi), host numbers from /proc. Nothing here starts a CUDA
context, so looking costs the device no memory.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

LARGE_MAPPING = 64 << 20
"""Mappings below this are no copy of a model."""


class NvmlUnavailableError(RuntimeError):
    """NVML cannot be used; the message says why and what to install."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """One look at a device and at one process tree; bytes."""

    device_used: int
    """Of the whole device, all tenants together."""
    process_used: int | None
    """Held by the process tree; None when the driver does not tell (some virtual machines and containers)."""
    host_private: int
    """Private memory of the process tree: anonymous pages, file pages not counted."""
    host_file: int
    """Pages of mapped files now resident; the kernel may drop them at any time."""
    device_mappings: int
    """Address space of the device files mapped by the process."""

    def as_json(self) -> dict[str, int | None]:
        """For a recording's facts."""
        return asdict(self)


class Nvml:
    """NVML opened for one device.

    Raises:
        NvmlUnavailableError: the package or the driver is missing, or there is no such device.
    """

    def __init__(self, index: int) -> None:
        try:
            import pynvml  # noqa: PLC0415 - only installed on NVIDIA hosts
        except ImportError as error:
            raise NvmlUnavailableError("the package nvidia-ml-py is missing: install the extra [cuda]") from error
        self._nvml: Any = pynvml
        try:
            self._nvml.nvmlInit()
            self._device = self._nvml.nvmlDeviceGetHandleByIndex(index)
        except self._nvml.NVMLError as error:
            raise NvmlUnavailableError(f"the driver does not answer for device {index}: {error}") from error

    def used(self) -> int:
        """Bytes in use on the device, by anyone."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._device).used)

    def total(self) -> int:
        """Bytes the device has."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._device).total)

    def processes(self) -> dict[int, int | None]:
        """Bytes by process id of every process with a compute context; None where the driver does not tell."""
        running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._device)
        return {int(item.pid): None if item.usedGpuMemory is None else int(item.usedGpuMemory) for item in running}

    def close(self) -> None:
        """Let go of the library."""
        self._nvml.nvmlShutdown()

    def look(self, pid: int) -> DeviceMemory:
        """Memory of the device and of the process tree below ``pid``."""
        tree = _tree(pid)
        held = [amount for owner, amount in self.processes().items() if owner in {process.pid for process in tree}]
        private = mapped = device = 0
        for process in tree:
            with contextlib.suppress(psutil.Error):
                for area in process.memory_maps(grouped=False):
                    if area.path.startswith("/dev/nvidia"):
                        device += area.rss
                    elif area.path.startswith("/") and not area.path.startswith("/dev/"):
                        mapped += area.rss - area.anonymous
                        private += area.anonymous
                    else:
                        private += area.anonymous
        return DeviceMemory(
            device_used=self.used(),
            process_used=None if not held or None in held else sum(amount or 0 for amount in held),
            host_private=private,
            host_file=mapped,
            device_mappings=device,
        )


def opens_device(pid: int) -> bool:
    """Whether a process of the tree below ``pid`` holds an NVIDIA device file: the sign of a context of its own.

    For hosts whose driver lists no processes, such as some virtual machines.
    """
    for process in _tree(pid):
        folder = Path("/proc", str(process.pid), "fd")
        with contextlib.suppress(OSError):
            for entry in folder.iterdir():
                with contextlib.suppress(OSError):
                    if entry.readlink().name.removeprefix("nvidia").isdigit():
                        return True
    return False


def device_of(pid: int, index: int, used_before: int | None, weights: int) -> str | None:
    """Where a worker's weights are, by the driver: "cuda", "cpu", or None where the driver cannot be asked.

    By its process list; where that hides processes, by the device file that a context needs; else by whether the
    memory in use has grown by half the weights (bytes) since `used_before`.
    """
    try:
        driver = Nvml(index)
    except NvmlUnavailableError:
        return None
    try:
        tree = {process.pid for process in _tree(pid)}
        listed, grown = driver.processes(), driver.used() - (used_before or 0)
        shown = tree & set(listed) or opens_device(pid)
        return "cuda" if shown or (used_before is not None and grown >= weights / 2 > 0 and not listed) else "cpu"
    finally:
        driver.close()


def used_now(index: int) -> int | None:
    """Bytes in use on a device; None where the driver cannot be asked."""
    try:
        driver = Nvml(index)
    except NvmlUnavailableError:
        return None
    try:
        return driver.used()
    finally:
        driver.close()


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
