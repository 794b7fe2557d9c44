"""A neighbour that holds device memory: a process of its own that allocates through the CUDA driver and waits.

`python -m m0_conformance.targets.occupier DEVICE LEAVE` takes all but LEAVE bytes of a device, prints how many it
took and holds them until its standard input closes, so it never outlives whoever started it.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PIECE = 256 << 20
START_S = 60.0


class OccupierError(RuntimeError):
    """The neighbour could not take the memory; the message is the driver's."""


@asynccontextmanager
async def occupied_device(device: int, leave: int) -> AsyncIterator[int]:
    """Hold all but ``leave`` bytes of a device; yields the bytes taken.

    Raises:
        OccupierError: the neighbour failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "m0_conformance.targets.occupier",
        str(device),
        str(leave),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        if process.stdout is None:
            raise OccupierError("the neighbour has no output")
        said = (await asyncio.wait_for(process.stdout.readline(), START_S)).decode().strip()
        if not said.isdigit():
            raise OccupierError(said or "the neighbour ended without a word")
        yield int(said)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


def take(device: int, leave: int) -> int:
    """Allocate until only about ``leave`` bytes are free; returns the bytes taken. Raises OccupierError."""
    driver = ctypes.CDLL("libcuda.so.1")

    def call(name: str, *arguments: object) -> int:
        return int(getattr(driver, name)(*arguments))

    context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    handle = ctypes.c_int()
    for name, *arguments in (
        ("cuInit", 0),
        ("cuDeviceGet", ctypes.byref(handle), device),
        ("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle),
        ("cuCtxSetCurrent", context),
    ):
        if code := call(name, *arguments):
            raise OccupierError(f"{name} returned {code}")
    taken = 0
    while call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total)) == 0:
        piece = min(PIECE, free.value - leave)
        if piece < 1 << 20 or call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(piece)):
            return taken
        taken += piece
    raise OccupierError("cuMemGetInfo failed")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{take(int(sys.argv[1]), int(sys.argv[2]))}\n")
    except (OccupierError, OSError) as error:
        sys.stdout.write(f"{error}\n")
    sys.stdout.flush()
    sys.stdin.read()
