"""How a person repeats what was seen: a curl line for one exchange, a replay line for the whole recording."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Exchange

MAX_BODY = 2000
"""Characters of a body in a curl line; longer ones are repeated by replay."""


def curl_line(exchange: Exchange) -> str | None:
    """The exchange as a curl command; None when curl cannot send it (raw bytes, huge or binary bodies)."""
    if exchange.method == "RAW" or not exchange.path.startswith("/"):
        return None
    words = ["curl", "-N", "-i"]
    if exchange.method != ("POST" if exchange.request_body else "GET"):
        words += ["-X", exchange.method]
    for name, value in exchange.request_headers:
        words += ["-H", f"{name}: {value}"]
    if exchange.request_body:
        try:
            text = exchange.request_body.decode("utf-8")
        except UnicodeDecodeError:
            return None
        if len(text) > MAX_BODY or "\0" in text:
            return None
        words += ["--data-binary", text]
    return shlex.join([*words, f"http://{exchange.host}{exchange.path}"])


def replay_line(sha: str, reports: str) -> str:
    """The command that sends a recording's requests again."""
    path = f"{reports}/transcripts/{sha}.json" if reports else f"transcripts/{sha}.json"
    return f"m0-conformance replay {shlex.quote(path)} --worker-url http://host:port"
