"""The benchmarks' client opens a connection for every request and times what arrives."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import httpx2
import pytest

from bench import client

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n"
PIECES = [b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n"]


class Server:
    """Answers one request a connection with two pieces, and keeps what it was sent."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.requests: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(1 << 16))
                for piece in (HEAD, *PIECES):
                    connection.sendall(piece)
                    time.sleep(0.03)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.listener.shutdown(socket.SHUT_RDWR)
    running.listener.close()


def test_pieces_come_with_their_arrival(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    (one, first), (two, second) = client.pieces(client.post(server.port, "/execute", {"prompt": "é"}))
    assert [first, second] == PIECES  # the transfer coding stays
    assert two - one > 0.02
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /execute HTTP/1.1\r\n")
    assert b"\r\nConnection: close" in head
    assert body == '{"prompt":"é"}'.encode()


def test_every_request_has_a_connection_of_its_own(server: Server) -> None:
    answer = client.get(server.port, "/health")
    assert (answer.status_code, answer.content) == (202, b"".join(PIECES))
    assert client.drain(client.post(server.port, "/cancel", {})) == b"".join(PIECES)
    assert [request.split(b" ")[1] for request in server.requests] == [b"/health", b"/cancel"]


def test_a_get_is_timed_to_its_end(server: Server) -> None:
    assert 0.08 < client.get_seconds(server.port, "/health") < 5.0


def test_a_connection_closed_without_an_answer_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "HEAD", b"")
    monkeypatch.setitem(globals(), "PIECES", [])
    with pytest.raises(httpx2.RemoteProtocolError):
        client.post(server.port, "/execute", {})


def test_nobody_listening_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(httpx2.ConnectError):
        client.get(port, "/health")
