"""A worker that already runs somewhere."""

from __future__ import annotations

from urllib.parse import urlsplit


class UrlError(ValueError):
    """No URL of a worker; the message says what to write instead."""


def parse_url(url: str) -> tuple[str, int]:
    """Host and port of "http://host:port". Raises UrlError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UrlError(f"--worker-url {url}: {error}; write http://host:port") from error
    if parts.scheme != "http" or not parts.hostname:
        cure = "put a plain HTTP port in front of it" if parts.scheme == "https" else "write http://host:port"
        raise UrlError(f"--worker-url {url}: only http:// URLs can be judged byte for byte; {cure}")
    if parts.path not in {"", "/"} or parts.query or parts.username:
        raise UrlError(
            f"--worker-url {url}: M0 routes live at the root; write http://{_bracketed(parts.hostname)}:{port or 80}"
        )
    return parts.hostname, port or 80


def _bracketed(host: str) -> str:
    """An IPv6 address as URLs hold it."""
    return f"[{host}]" if ":" in host else host
