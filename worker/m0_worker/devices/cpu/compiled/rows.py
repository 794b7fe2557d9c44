"""Products of stored rows with a vector, and stored rows in float32: one compiled function a storage type."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from numba import cfunc, config, types

from m0_worker.devices.cpu.compiled.blocks import UNPACKINGS
from m0_worker.devices.cpu.compiled.vectors import fma, load_floats, put, store_floats, total, zeros

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_worker.gguf import GgmlType

_GROUP = 128  # bytes of 32 floats
SIGNATURE = types.void(*[types.intp] * 5)


def _rows(unpack: Callable[..., Any], groups: int, nbytes: int) -> Callable[..., None]:
    """The kernel of a storage type, before it is compiled.

    A row's product is summed in 32 lanes, weight i in lane i % 32, and the lanes by halves: it depends on nothing but
    the row, so whoever computes it gets the same bits.
    """

    def rows(blocks: int, n_rows: int, n_blocks: int, x: int, out: int) -> None:
        block = blocks
        for _ in range(n_rows):
            if x != 0:
                at, lanes = x, zeros()
                for _ in range(n_blocks):
                    for group in range(groups):
                        lanes = fma(unpack(block, group), load_floats(at), lanes)
                        at += _GROUP
                    block += nbytes
                put(out, total(lanes))
                out += 4
            else:
                for _ in range(n_blocks):
                    for group in range(groups):
                        store_floats(out, unpack(block, group))
                        out += _GROUP
                    block += nbytes

    return rows


@functools.cache
def kernel(kind: GgmlType) -> Any:
    """The compiled kernel of a storage type, (blocks, n_rows, n_blocks, x, out), all addresses and counts.

    x != 0: the products of n_rows rows with the vector at x, one float each to out. x == 0: the rows themselves, in
    float32, to out.
    """
    way = UNPACKINGS[kind]
    return cfunc(SIGNATURE, cache=bool(config.CACHE_DIR))(_rows(way.unpack, way.groups, way.nbytes))
