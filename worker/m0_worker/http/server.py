"""The HTTP server: uvicorn on a socket that was bound before the model was loaded."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from m0_worker.http.app import Application


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 by httptools, which answers even what is no HTTP in JSON."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        body = b'{"code":"INVALID_REQUEST","message":"the request is not valid HTTP/1.1","retriable":false}'
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()


class Server(uvicorn.Server):
    """Serves an application until `stop`; the process's signals are its owner's business."""

    def __init__(self, app: Application, on_listening: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=128,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=2,
            )
        )
        self._on_listening = on_listening

    def stop(self) -> None:
        """Close the socket, let open responses end, and return from `serve`."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._on_listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield
