from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from m0_conformance.recording.http1 import MAX_HEAD, ResponseReader

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: 1\r\n\r\n"
LENGTH = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc"
CLOSE = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nto the end"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH


def read(data: bytes, step: int = 10**9, method: str = "GET") -> tuple[ResponseReader, bytes]:
    reader = ResponseReader(method)
    body = b"".join(piece for i in range(0, len(data), step) for piece in reader.feed(data[i : i + step]))
    return reader, body


@given(st.sampled_from([CHUNKED, LENGTH, CLOSE, INTERIM]), st.integers(1, 60))
@settings(deadline=None, max_examples=150)
def test_pieces_do_not_matter(data: bytes, step: int) -> None:
    (a, whole), (b, pieces) = read(data), read(data, step)
    assert whole == pieces
    assert (a.state, a.status, a.headers, a.framing) == (b.state, b.status, b.headers, b.framing)


@pytest.mark.parametrize(
    ("data", "status", "body", "framing"),
    [
        (CHUNKED, 200, b"hello world", "chunked"),
        (LENGTH, 404, b"abc", "length"),
        (CLOSE, 200, b"to the end", "close"),
        (INTERIM, 404, b"abc", "length"),
    ],
)
def test_framings(data: bytes, status: int, body: bytes, framing: str) -> None:
    reader, got = read(data)
    assert (reader.status, got, reader.framing) == (status, body, framing)
    assert reader.eof()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "does not begin with HTTP"),
        (b"\x16\x03\x01\x02", "does not begin with HTTP"),
        (b"HTTP/1.1 2000 Much\r\n\r\n", "bad status line"),
        (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", "bad header line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n", "bad content-length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "bad chunk size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "not followed by a line end"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * MAX_HEAD, "no end of the headers"),
    ],
)
def test_garbage_is_named(data: bytes, word: str) -> None:
    reader, _ = read(data)
    assert reader.state == "garbage"
    assert word in reader.error


@pytest.mark.parametrize("cut", range(1, len(CHUNKED)))
def test_a_cut_message_is_never_complete(cut: int) -> None:
    reader, _ = read(CHUNKED[:cut])
    assert not reader.eof()
    assert reader.error


def test_surplus_is_kept_apart() -> None:
    reader, body = read(LENGTH + b"more")
    assert body == b"abc"
    assert reader.surplus == b"more"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_answers_without_a_body(method: str, status: int) -> None:
    reader, body = read(b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\n" % status, method=method)
    assert reader.state == "done"
    assert body == b""
