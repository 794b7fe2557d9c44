"""Where M0's requests go when a worker serves them elsewhere, and what every one of them must carry.

A recording holds the request that M0 describes. Its way through a gateway, other paths and a token, is the user's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from m0_conformance.recording.request import Request

ROUTES: Final = ("execute", "cancel", "health", "metrics", "shutdown")


@dataclass(frozen=True, slots=True)
class Route:
    """Other paths by M0's ("/execute": "/v1/inference"), and header fields for every request."""

    paths: Mapping[str, str] = field(default_factory=dict)
    headers: Sequence[tuple[str, str]] = ()

    @classmethod
    def parse(cls, paths: Sequence[str], headers: Sequence[str]) -> Route:
        """From --path ROUTE=PATH and --header NAME:VALUE. Raises ValueError with a sentence."""
        mapped: dict[str, str] = {}
        for text in paths:
            name, equals, path = text.partition("=")
            if name not in ROUTES or not equals or not path.startswith("/"):
                raise ValueError(f"--path {text}: write ROUTE=/path, with one of {', '.join(ROUTES)}")
            mapped[f"/{name}"] = path
        fields: list[tuple[str, str]] = []
        for text in headers:
            name, colon, value = text.partition(":")
            if not colon or not name.strip() or not (name + value).isprintable():
                raise ValueError(f"--header {name}: write NAME:VALUE")
            fields.append((name.strip(), value.strip()))
        return cls(mapped, tuple(fields))

    def __bool__(self) -> bool:
        return bool(self.paths or self.headers)

    def sent(self, request: Request) -> Request:
        """The request as it goes over the wire; of malformed ones the first line and the fields behind it."""
        if not self:
            return request
        path, mark, query = request.path.partition("?")
        target = self.paths.get(path, path) + mark + query
        given = {name.lower() for name, _ in request.headers}
        more = [(name, value) for name, value in self.headers if name.lower() not in given]
        if request.raw is None:
            return replace(request, path=target, headers=[*request.headers, *more])
        return replace(request, raw=self._raw(request.raw))

    def _raw(self, raw: bytes) -> bytes:
        line, end, rest = raw.partition(b"\r\n")
        words = line.split(b" ")
        if not end or len(words) != 3 or not words[2].startswith(b"HTTP/"):
            return raw
        words[1] = self.paths.get(words[1].decode("latin-1"), words[1].decode("latin-1")).encode("latin-1")
        fields = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in self.headers)
        return b" ".join(words) + end + fields + rest


PLAIN: Final = Route()
"""M0's own paths, and no header field more."""
