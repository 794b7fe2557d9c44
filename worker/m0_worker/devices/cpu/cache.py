"""The KV cache of one job on the CPU device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m0_worker.gguf.dequantize import widen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m0_worker.devices.interface import CacheShape

# Below this a cache holds FP16 values in float32 words: the same numbers, and short contexts need no widening.
WIDE_BYTES = 8 << 20


class KvCache:
    """Keys and values by layer, head and position, rounded to FP16 unless the shape says float32.

    Attributes:
        nbytes: bytes it takes.
    """

    def __init__(self, shape: CacheShape, n_tokens: int) -> None:
        self._half = shape.dtype == "f16"
        self._narrow = self._half and 2 * shape.nbytes(n_tokens) > WIDE_BYTES
        dtype = np.float16 if self._narrow else np.float32
        size = (shape.n_layer, shape.n_kv_head, n_tokens, shape.head_dim)
        self._keys = np.zeros(size, dtype)  # zeroed: nothing of an earlier job can show through
        self._values = np.zeros(size, dtype)
        self.nbytes = self._keys.nbytes + self._values.nbytes

    @staticmethod
    def size(shape: CacheShape, n_tokens: int) -> int:
        """Bytes that a cache for ``n_tokens`` positions will take."""
        nbytes = shape.nbytes(n_tokens)
        return 2 * nbytes if shape.dtype == "f16" and 2 * nbytes <= WIDE_BYTES else nbytes

    def write(self, layer: int, position: int, k: NDArray[np.floating], v: NDArray[np.floating]) -> None:
        """Store keys and values (T, n_kv_head, head_dim) from ``position`` on."""
        if self._half:  # rounded here, widened again by the assignment if the cache is wide
            k, v = k.astype(np.float16), v.astype(np.float16)
        if len(k) == 1:
            self._keys[layer, :, position], self._values[layer, :, position] = k[0], v[0]
            return
        stop = position + len(k)
        self._keys[layer, :, position:stop] = k.swapaxes(0, 1)  # (T, n_kv_head, head_dim) -> (n_kv_head, T, head_dim)
        self._values[layer, :, position:stop] = v.swapaxes(0, 1)

    def stored(self, layer: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Keys and values of a layer as they lie, each (n_kv_head, capacity, head_dim) in FP16 or float32; views."""
        return self._keys[layer], self._values[layer]

    def read(self, layer: int, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Keys and values of positions start to stop - 1, each (n_kv_head, n, head_dim) in float32."""
        k, v = self._keys[layer, :, start:stop], self._values[layer, :, start:stop]
        if self._narrow:
            return widen(np.ascontiguousarray(k)), widen(np.ascontiguousarray(v))
        return k, v
