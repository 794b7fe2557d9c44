"""Who may call: a page in the user's browser reaches every port of the machine, so it must not pass for the user.

A page of another site can name the worker's address (a cross-site request, told by Origin) or have its own name lead
there (DNS rebinding, told by Host). Both are refused before anything is routed; non-browser clients send no Origin and
name the address that they were given.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from m0_worker.http.errors import HttpError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Scope

_CURE = "call it by its address, or start it with --allowed-host"


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(authority: str) -> str:
    """The host of `host:port`, in lower case; "" where there is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


class Callers:
    """The names under which a worker may be called.

    Bound to a loopback address it answers to loopback names and those of `--allowed-host`; bound to another address, to
    any name, unless `--allowed-host` lists them.
    """

    def __init__(self, bound_to: str, allowed: Iterable[str] = ()) -> None:
        self._allowed = {name.lower() for name in allowed}
        self._guarded = bool(self._allowed) or is_loopback(bound_to)
        if self._allowed:
            self._allowed.add(bound_to.lower())

    def refusal(self, scope: Scope) -> HttpError | None:
        """Why a request is not let in, or None.

        403 for a foreign Host or Origin; 400 where HTTP/1.1's one Host is missing or doubled (RFC 9112, section 3.2).
        """
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1 or (not hosts and scope.get("http_version") == "1.1"):
            return HttpError.of_field(400, "host", "required", "HTTP/1.1 asks for exactly one Host header")
        if not self._guarded:
            return None
        if hosts and not self._knows(_host_of(hosts[0])):
            return HttpError.of_field(403, "host", "allowed", f"this worker is not called by that name; {_CURE}")
        for name, value in scope["headers"]:
            if name == b"origin" and not self._is_own(value.decode("latin-1"), hosts):
                return HttpError.of_field(403, "origin", "same_origin", f"pages of other sites may not call; {_CURE}")
            if name == b"sec-fetch-site" and value.lower() == b"cross-site" and scope["method"] not in {"GET", "HEAD"}:
                return HttpError.of_field(403, "sec-fetch-site", "same_origin", "pages of other sites may not call")
        return None

    def _knows(self, host: str) -> bool:
        return is_loopback(host) or host in self._allowed

    def _is_own(self, origin: str, hosts: list[str]) -> bool:
        """The worker's own page, or a page of an allowed host; "null" and another port of this machine are neither."""
        scheme, _, authority = origin.partition("://")
        if scheme not in {"http", "https"}:
            return False
        return (bool(hosts) and authority.lower() == hosts[0].lower()) or _host_of(authority) in self._allowed
