"""Somebody who answers a worker's ready callback: for commands that demand one."""

from __future__ import annotations

import asyncio
from typing import Final

_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
)
_LARGEST: Final = 1 << 16
_PATIENCE_S: Final = 5.0


class CallbackListener:
    """A loopback listener that answers every request with 200 and {}."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None

    async def url(self) -> str:
        """Where it listens; it is opened with the first question."""
        if self._server is None:
            self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/ready"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length:") and line.split(b":")[1].strip().isdigit()
                    ),
                    0,
                )
                await reader.readexactly(min(length, _LARGEST))
                writer.write(_ANSWER)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
