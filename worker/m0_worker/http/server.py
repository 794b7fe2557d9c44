"""The HTTP server: uvicorn on a socket that was bound before the model was loaded."""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from m0_worker.http.connection import Connection
from m0_worker.http.connection_limits import ConnectionLimits, descriptors_allow
from m0_worker.http.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from m0_worker.http.app import Application

BACKLOG = 128
_SWEEP_EVERY = 3  # of uvicorn's ticks, which come every tenth of a second
# Clients get this long to read the last of what they were told, before the worker ends without them.
_FAREWELL_S = 1.5


class Server(uvicorn.Server):
    """Serves an application until `stop`; the process's signals are its owner's business."""

    def __init__(
        self, app: Application, on_listening: Callable[[], None], limits: ConnectionLimits | None = None
    ) -> None:
        self._room = Room(limits or ConnectionLimits(connections=descriptors_allow()))
        made: Any = partial(Connection, room=self._room)
        super().__init__(
            uvicorn.Config(
                app,
                http=made,
                ws="none",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=2,
            )
        )
        self._on_listening = on_listening

    def stop(self) -> None:
        """Close the socket, let open responses end, and return from `serve`."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so.

        Raises:
            OSError: somebody else listens there.
        """
        for each in sockets or ():
            # `bind` took it away to keep the port. Connections inherit it, and without it those that linger after the
            # worker's end would keep the port from the next one.
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.listen(BACKLOG)  # asked here: uvloop tells nobody that it failed
        await super().startup(sockets)
        self._on_listening()

    async def on_tick(self, counter: int) -> bool:
        """Every tenth of a second."""
        if counter % _SWEEP_EVERY == 0:
            self._room.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and end connections whose clients do not read."""
        farewell = asyncio.get_running_loop().call_later(_FAREWELL_S, self._room.abort)
        try:
            await super().shutdown(sockets)
        finally:
            farewell.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield
