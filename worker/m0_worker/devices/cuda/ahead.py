"""Kernels compiled ahead, where no device is needed: in an image's build, or before a first start.

Which kernels a model takes follows from its shapes and storage types, so it is loaded onto a device that only counts
addresses: the same code asks for the same kernels with the same options, and the compiler keeps them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_worker.devices.cuda import driver
from m0_worker.devices.cuda.device import CudaDevice
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from m0_worker.devices.interface import Adapter

# Shared memory a block may ask for, by compute capability (CUDA programming guide, technical specifications).
SHARED_BYTES: Final = {90: 227 << 10, 100: 227 << 10, 103: 227 << 10, 110: 227 << 10, 120: 99 << 10, 121: 99 << 10}
_MULTIPROCESSORS: Final = 132  # of H100 and H200 (SXM)
_FREE: Final = 1 << 50  # bytes: room for any model


def prepare(models: Iterable[Path], capability: int) -> int:
    """Compile the kernels that these models need on a device of this compute capability (90 for 9.0).

    The process can use no device afterwards: the driver's functions are replaced for good.

    Returns:
        How many sets of kernels there are, those included that were already kept.

    Raises:
        ValueError: nothing is known of this compute capability.
        DeviceError: a kernel does not compile, or NVRTC cannot be loaded.
        GgufError, ModelError: a file is no model that the worker can run.
    """
    if capability not in SHARED_BYTES:
        raise ValueError(f"compute capability {capability}: give one of {', '.join(map(str, SHARED_BYTES))}")
    started = _pretend(capability)
    for path in models:
        load_model(GgufFile.open(path), _Counting(0))
    for kernels in started:
        kernels.wait()
    return len({kernels.key for kernels in started})


class _Counting(CudaDevice):
    """A device that keeps nothing and runs nothing."""

    def prepare(self, model: Adapter, n_tokens: int) -> None:  # noqa: ARG002 - the device's signature
        self._engine(model)  # records the passes, and with them asks for the kernels
        for kind, _ in list(self._products):
            self.products(kind, 64)  # what a real device compiles when it has time


class _Kernels(driver.Kernels):
    """Compiled and never launched."""

    started: list[_Kernels]

    def __init__(self, name: str, defines: dict[str, int] | None = None, **how: Any) -> None:
        super().__init__(name, defines, **how)
        self.key = (name, tuple(sorted((defines or {}).items())))
        self.started.append(self)

    def wait(self) -> None:
        """Until the machine code is there. Raises DeviceError."""
        self._code.result()

    def forget(self) -> None:
        """Everything that was asked for is wanted."""

    def launch(self, *_: object, **__: object) -> None:
        """Nothing runs."""


def _pretend(capability: int) -> list[_Kernels]:
    """Put functions that touch no device in the place of the driver's; the list fills with what is compiled."""
    addresses = iter(range(1 << 20, 1 << 62, 1 << 40))
    started: list[_Kernels] = []
    counting = type("_Kernels", (_Kernels,), {"started": started})

    def nothing(*_: object, **__: object) -> None:
        return None

    def pinned(dtype: np.dtype[Any], n: int) -> NDArray[Any]:
        return np.zeros(n, dtype)

    properties = {
        "name": "none",
        "major": capability // 10,
        "minor": capability % 10,
        "multiProcessorCount": _MULTIPROCESSORS,
        "sharedMemPerBlockOptin": SHARED_BYTES[capability],
    }
    stand_ins: dict[str, Any] = {
        "Kernels": counting,
        "allocate": lambda nbytes: next(addresses),  # noqa: ARG005 - the driver's signature
        "capability": lambda: capability,
        "free_bytes": lambda: _FREE,
        "new_event": nothing,
        "new_stream": _Stream,
        "pinned": pinned,
        "use": lambda index: properties,  # noqa: ARG005 - the driver's signature
        **dict.fromkeys(("clear", "copy", "download", "free", "upload"), nothing),
    }
    for name, stand_in in stand_ins.items():
        setattr(driver, name, stand_in)
    return started


class _Stream:
    """A stream on which everything is done already."""

    def synchronize(self) -> None:
        """There is nothing to wait for."""
