"""How many connections there may be, and which make room for others: /health must be answered in any crowd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_worker.errors import Code
from m0_worker.http.connection import CROWDED
from m0_worker.http.correlation import Sending, assign
from m0_worker.http.errors import HttpError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from m0_worker.http.connection import Connection
    from m0_worker.http.connection_limits import ConnectionLimits


class Room:
    """The connections of a server."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._connections: set[Connection] = set()

    def enter(self, connection: Connection) -> None:
        """Give a new connection its place.

        In a crowd the one that has been waiting for its client the longest goes; if all are at work, the new one gets
        a place in the reserve, and if that is full it is refused.
        """
        self._connections.add(connection)
        limits = self.limits
        if len(self._connections) <= limits.connections:
            return
        idle = [each for each in self._connections if each is not connection and each.evictable]
        if idle:
            min(idle, key=lambda each: each.waiting_since).evict()
        if len(self._connections) > limits.connections + limits.reserve:
            connection.refuse(CROWDED)
        elif not idle:
            connection.reserved = True
            connection.app = _OnlyBrief(connection.app)

    def leave(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)

    def sweep(self, now: float) -> None:
        """End what takes too long."""
        for connection in tuple(self._connections):
            connection.check(now)

    def abort(self) -> None:
        """End everything at once."""
        for connection in tuple(self._connections):
            connection.transport.abort()


class _OnlyBrief:
    """The application for connections of the reserve: everything but jobs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/execute":
            retry = {"retry-after": "1", "connection": "close"}
            refused = HttpError(503, CROWDED.message, code=Code.INTERNAL, retriable=True, headers=retry)
            await refused.response()(scope, receive, Sending(send, assign(scope)))
        else:
            await self._app(scope, receive, send)
