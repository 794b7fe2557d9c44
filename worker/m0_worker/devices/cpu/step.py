"""One forward pass on the CPU device: its tokens, where they stand, and who watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from m0_worker.devices.cpu.cache import KvCache
    from m0_worker.devices.interface import Adapter, Array, Device, Tap


class Wanted(dict[str, bool]):
    """Which checkpoints a tap asked for, each asked about once; a lookup is all that an unwatched one costs."""

    def __init__(self, tap: Tap | None) -> None:
        super().__init__()
        self._tap = tap

    def __missing__(self, name: str) -> bool:
        wanted = self[name] = self._tap is not None and self._tap.wants(name)
        return wanted


class CpuStep:
    """One forward pass. Implements :class:`m0_worker.devices.interface.Step`.

    Attributes:
        tokens: (T,) ids.
        position: absolute position of the first.
        n_out: rows at the end whose logits are wanted.
    """

    __slots__ = ("_tap", "_wanted", "cache", "device", "model", "n_out", "n_tokens", "position", "tokens")

    def __init__(
        self,
        device: Device,
        model: Adapter,
        cache: KvCache,
        tap: Tap | None,
        wanted: Wanted,
        tokens: NDArray[np.intp],
        position: int,
        n_out: int,
    ) -> None:
        self.device = device
        self.model = model
        self.cache = cache
        self.tokens = tokens
        self.n_tokens = len(tokens)
        self.position = position
        self.n_out = n_out
        self._tap = tap
        self._wanted = wanted

    def tap(self, name: str, layer: int, array: Array) -> None:
        """See the interface."""
        if self._wanted[name] and self._tap is not None:
            self._tap(name, layer, array)

    def watches(self, name: str) -> bool:
        """See the interface."""
        return self._wanted[name]
