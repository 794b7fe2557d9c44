"""What the harness itself adds to a round trip."""

from __future__ import annotations

import asyncio
import contextlib

from m0_conformance.recording.client import Clock, start
from m0_conformance.recording.request import Request


async def measure_floor(count: int = 30) -> list[float]:
    """What this harness itself adds: round trips (seconds) of a constant answer from a server in this process."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    clock = Clock()
    samples: list[float] = []
    async with server:
        for number in range(count):
            live = start(
                ("127.0.0.1", port), Request("GET", "/"), identity=f"f{number}", label="floor", clock=clock, timeout=5
            )
            exchange = await live.done()
            if exchange.closed_at is not None and exchange.end == "eof":
                samples.append(exchange.closed_at)
    return samples
