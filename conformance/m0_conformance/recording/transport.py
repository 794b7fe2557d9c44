"""httpx2 beneath a recording: it forms every well-formed request, and its bytes leave over the recorded connection.

httpx2's own transport reads answers with h11, which refuses or hides what must be judged: bytes after the end, white
space before a colon, trailers, interim answers. So this one gives it the answer as the suite's own reader reads it,
and without header fields: redirects, cookies and content codings act on those, and a judged answer must meet none.

Loading httpx2 takes a while; only what opens a connection imports this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from m0_conformance.recording.request import Request

WITH_LENGTH = {"POST", "PUT", "PATCH"}


def form(request: Request, host: str) -> httpx2.Request:
    """The request as httpx2 forms it, in the order Host, own fields, Content-Length, Connection.

    Raises ValueError for what no URL and no header field can hold.
    """
    try:
        return _formed(request, host)
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise _malformed(request.method, request.path, error) from error


def _formed(request: Request, host: str) -> httpx2.Request:
    names = {name.lower() for name, _ in request.headers}
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
    target = request.path.encode("ascii")
    url = httpx2.URL(f"http://{host}")
    if "host" not in names and url.netloc != host.encode():
        headers.insert(0, (b"Host", host.encode("latin-1")))  # httpx2 leaves port 80 out
    if not request.body and request.method in WITH_LENGTH and not names & {"content-length", "transfer-encoding"}:
        headers.append((b"Content-Length", b"0"))  # httpx2 would put it before the request's own fields
    formed = httpx2.Request(
        request.method,
        url.copy_with(raw_path=target) if target.startswith(b"/") else url,
        headers=headers,
        content=request.body,
    )
    formed.method = request.method  # methods are case-sensitive (RFC 9110, section 9.1), httpx2 makes them upper case
    if "connection" not in names:
        formed.headers["Connection"] = "close"
    if formed.url.raw_path != target:
        formed.extensions["target"] = target  # a check may ask for what a URL does not hold as it is: "*", "/a/../b"
    return formed


def wire_bytes(request: httpx2.Request) -> bytes:
    """A request with its body, as it goes over the wire. Raises ValueError when RFC 9112 does not allow it."""
    connection = h11.Connection(h11.CLIENT)
    target = request.extensions.get("target", request.url.raw_path)
    try:
        head = h11.Request(method=request.method, target=target, headers=request.headers.raw)
        events: Sequence[h11.Event] = (head, h11.Data(data=request.content), h11.EndOfMessage())
        return b"".join(connection.send(event) or b"" for event in events)
    except (h11.LocalProtocolError, UnicodeError) as error:
        raise _malformed(request.method, target.decode("latin-1"), error) from error


def _malformed(method: str, target: str, error: Exception) -> ValueError:
    return ValueError(f"the request {method} {target!r} is not well-formed ({error}): give its bytes as raw")


class _Body(httpx2.AsyncByteStream):
    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


class RecordedTransport(httpx2.AsyncBaseTransport):
    """One request over one recorded connection.

    Args:
        send: starts sending; the answer may come before all is sent.
        status: waits for the answer's head; None when none came.
        pieces: what comes of the body after it.
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        status: Callable[[], Awaitable[int | None]],
        pieces: Callable[[], AsyncIterator[bytes]],
    ) -> None:
        self._send, self._status, self._pieces = send, status, pieces

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it. Raises httpx2.RemoteProtocolError when no head of an answer came, ValueError as `wire_bytes`."""
        self._send(wire_bytes(request))
        status = await self._status()
        if status is None:
            raise httpx2.RemoteProtocolError("no answer", request=request)
        return httpx2.Response(status, stream=_Body(self._pieces()))


async def exchange(formed: httpx2.Request, transport: RecordedTransport) -> None:
    """Send a request and take its answer to the end; what came is recorded below, not returned.

    The environment's proxies and credentials are left alone, and there is no time-out: the exchange has its own.
    """
    async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None) as client:
        try:
            response = await client.send(formed, stream=True, follow_redirects=False)
        except httpx2.RemoteProtocolError:
            return
        async for _ in response.aiter_raw():
            pass
