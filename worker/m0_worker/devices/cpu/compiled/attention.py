"""Attention of one token over the cache as it is stored, FP16 or float32: a piece of work for each key/value head."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cfunc, config

from m0_worker.devices.cpu.compiled.blocks import f16, f32
from m0_worker.devices.cpu.compiled.rows import SIGNATURE
from m0_worker.devices.cpu.compiled.vectors import (
    exp,
    first,
    fma,
    get,
    larger,
    largest,
    load_floats,
    load_word,
    plus,
    put,
    spread,
    store_floats,
    times,
    total,
    zeros,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m0_worker.devices.cpu.cache import KvCache
    from m0_worker.devices.cpu.compiled.crew import Crew

    Floats = NDArray[np.float32]

# Words of the record that describes a layer's attention: addresses, counts, and bytes from one head to the next.
_KEYS, _VALUES, _N, _HEAD_BYTES, _GROUP, _HEAD_DIM, _SINKS, _SCORES, _SCALE = range(9)


def _head(load: Callable[..., Any], size: int) -> Callable[..., None]:
    """The kernel for a cache of numbers of ``size`` bytes, before it is compiled."""

    def head(record: int, head: int, _unused: int, q: int, out: int) -> None:
        n, group, head_dim = load_word(record, _N), load_word(record, _GROUP), load_word(record, _HEAD_DIM)
        offset = head * load_word(record, _HEAD_BYTES)
        keys, values = load_word(record, _KEYS) + offset, load_word(record, _VALUES) + offset
        padded = (n + 31) // 32 * 32
        scores = load_word(record, _SCORES) + 4 * padded * group * head
        queries = q + 4 * head_dim * group * head
        scale = get(record + 8 * _SCALE)
        for position in range(n):
            key = keys + position * head_dim * size
            for h in range(group):
                dot = zeros()
                for i in range(0, head_dim, 32):
                    dot = fma(load_floats(queries + 4 * (h * head_dim + i)), load(key + size * i, 0), dot)
                put(scores + 4 * (h * padded + position), total(dot) * scale)
        for h in range(group):
            row = scores + 4 * h * padded
            for position in range(n, padded):
                put(row + 4 * position, -np.inf)
            top = load_floats(row)
            for position in range(32, padded, 32):
                top = larger(load_floats(row + 4 * position), top)
            peak = largest(top)
            sink = np.float32(-np.inf)
            if load_word(record, _SINKS) != 0:
                sink = get(load_word(record, _SINKS) + 4 * (head * group + h))
                peak = max(peak, sink)
            shift = spread(-peak)
            sums = zeros()
            for position in range(0, padded, 32):
                weights = exp(plus(load_floats(row + 4 * position), shift))
                store_floats(row + 4 * position, weights)
                sums = plus(sums, weights)
            whole = total(sums) + first(exp(spread(sink - peak)))
            share = spread(np.float32(1) / whole)
            for i in range(0, head_dim, 32):
                value = values + size * i
                even, odd = zeros(), zeros()  # two sums: a single one would wait for itself
                for position in range(0, n - 1, 2):
                    even = fma(spread(get(row + 4 * position)), load(value, 0), even)
                    odd = fma(spread(get(row + 4 * position + 4)), load(value + size * head_dim, 0), odd)
                    value += 2 * size * head_dim
                if n % 2:
                    even = fma(spread(get(row + 4 * (n - 1))), load(value, 0), even)
                store_floats(out + 4 * (h * head_dim + i), times(plus(even, odd), share))

    return head


@functools.cache
def attention_kernels() -> dict[str, Any]:
    """The compiled kernels, by the name of the cache's element type."""
    loads = {"float16": (f16, 2), "float32": (f32, 4)}
    return {name: cfunc(SIGNATURE, cache=bool(config.CACHE_DIR))(_head(*load)) for name, load in loads.items()}


def attend(
    crew: Crew,
    q: Floats,
    cache: KvCache,
    layer: int,
    start: int,
    stop: int,
    *,
    scale: float,
    sinks: Floats | None,
) -> Floats:
    """One token attends to positions start to stop - 1: q (1, n_head * head_dim), same shape back.

    :func:`m0_worker.devices.cpu.attention.attention` is what it is tested against.
    """
    keys, values = cache.stored(layer)  # (n_kv_head, capacity, head_dim)
    n_kv_head, capacity, head_dim = keys.shape
    group, n, size = q.shape[1] // (n_kv_head * head_dim), stop - start, keys.itemsize
    padded = -(-n // 32) * 32
    scores = np.empty(n_kv_head * group * padded, np.float32)
    record = np.zeros(_SCALE + 1, np.int64)
    begin = start * head_dim * size
    sink_address = 0 if sinks is None else sinks.ctypes.data
    record[:_SCALE] = (
        keys.ctypes.data + begin,
        values.ctypes.data + begin,
        n,
        capacity * head_dim * size,
        group,
        head_dim,
        sink_address,
        scores.ctypes.data,
    )
    record[_SCALE:].view(np.float32)[0] = scale
    kernel, address, width = attention_kernels()[keys.dtype.name].address, record.ctypes.data, 4 * group * head_dim
    pieces = np.array([(kernel, address, head, 0, width * head) for head in range(n_kv_head)], np.int64)
    out = np.empty_like(q, order="C")
    crew.run(pieces, np.ascontiguousarray(q[0]), out[0])
    return out
