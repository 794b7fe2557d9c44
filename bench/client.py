"""The benchmarks' client: httpx2 forms every request, on a connection of its own; the answer is taken as it comes.

A benchmark must not measure its client: httpx2's own transport parses answers with h11, and on two cores that left 0.80
of the tokens a second that this one leaves. So a body keeps its transfer coding; what is counted in it, or waited for,
never crosses a chunk.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import httpx2
from m0_conformance.recording.transport import wire_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_SIZE = 1 << 16
BEGUN = "begun"
"""Extension of a response: when its connection was asked for."""


class _Rest(httpx2.SyncByteStream):
    def __init__(self, connection: socket.socket, first: bytes) -> None:
        self._connection, self._first = connection, first

    def __iter__(self) -> Iterator[bytes]:
        if self._first:
            yield self._first
        while data := self._connection.recv(READ_SIZE):
            yield data

    def close(self) -> None:
        self._connection.close()


class _Transport(httpx2.BaseTransport):
    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        data = wire_bytes(request)
        begun = time.perf_counter()
        try:
            connection = socket.create_connection((request.url.host, request.url.port or 80))
        except OSError as error:
            raise httpx2.ConnectError(str(error), request=request) from error
        connection.sendall(data)
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(READ_SIZE)
            if not data:
                connection.close()
                raise httpx2.RemoteProtocolError("closed without an answer", request=request)
            head += data
        head, _, first = head.partition(b"\r\n\r\n")
        return httpx2.Response(int(head.split(b" ", 2)[1]), stream=_Rest(connection, first), extensions={BEGUN: begun})


_CLIENT = httpx2.Client(
    headers={"Connection": "close"}, transport=_Transport(), trust_env=False, timeout=None, follow_redirects=False
)


def post(port: int, path: str, document: dict[str, object]) -> httpx2.Response:
    """Send a POST of JSON to this machine; returns with the head of the response, whose body is still to be read."""
    request = _CLIENT.build_request("POST", f"http://127.0.0.1:{port}{path}", json=document)
    return _CLIENT.send(request, stream=True)


def get(port: int, path: str) -> httpx2.Response:
    """GET from this machine, to the end. Raises httpx2.ConnectError when nobody listens."""
    return _CLIENT.get(f"http://127.0.0.1:{port}{path}")


def get_seconds(port: int, path: str) -> float:
    """Seconds of a GET from asking for the connection to its end, without the forming of the request."""
    request = _CLIENT.build_request("GET", f"http://127.0.0.1:{port}{path}")
    response = _CLIENT.send(request, stream=True)
    drain(response)
    return time.perf_counter() - float(response.extensions[BEGUN])


def pieces(response: httpx2.Response) -> Iterator[tuple[float, bytes]]:
    """The rest of the body, with the time at which each piece arrived."""
    for data in response.iter_raw():
        yield time.perf_counter(), data


def drain(response: httpx2.Response) -> bytes:
    """The rest of the body."""
    return b"".join(response.iter_raw())
