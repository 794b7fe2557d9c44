"""The readiness callback (SYS-6.3.4): one POST once the socket listens. That it fails is logged, never fatal."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from m0_worker.config import WorkerConfig
    from m0_worker.narration import Narrator

_TIMEOUT_S = 5.0


class CallbackError(Exception):
    """The callback was not accepted; the text says why."""


async def report_ready(config: WorkerConfig, vram_bytes: int, narrator: Narrator) -> None:
    """Tell `config.callback_url` that the worker is ready, and narrate how that went."""
    url = config.callback_url or ""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            status = await _post(url, config, vram_bytes)
    except (OSError, CallbackError, ssl.SSLError) as error:  # TimeoutError is an OSError
        reason = str(error) or type(error).__name__
        narrator.event("callback", "WARN", outcome="failed", callback_url=url, reason=reason)
    else:
        narrator.event("callback", outcome="delivered", callback_url=url, status=status)


async def _post(url: str, config: WorkerConfig, vram_bytes: int) -> int:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host = parts.hostname or ""
    reader, writer = await asyncio.open_connection(
        host, parts.port or (443 if secure else 80), ssl=ssl.create_default_context() if secure else None
    )
    try:
        # A worker that listens on all addresses is reached at the one that leads to whoever is told.
        own = writer.get_extra_info("sockname")[0] if config.host in {"0.0.0.0", "::"} else config.host  # noqa: S104 - none is bound
        body = json.dumps(
            {
                "worker_id": config.worker_id,
                "vram_bytes": vram_bytes,
                "uri": uri(own, config.port),
                "model_ref": str(config.model),
                "gpu_device": config.gpu_device,
                "device": config.device,
            }
        ).encode()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = (
            f"POST {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode("ascii", errors="replace") + body)
        status_line = (await reader.readline()).decode("latin-1").split()
    finally:
        writer.close()
    if len(status_line) < 2 or not status_line[1].isdigit():
        raise CallbackError("the answer is not HTTP")
    status = int(status_line[1])
    if not 200 <= status < 300:
        raise CallbackError(f"the answer is HTTP {status}")
    return status


def uri(host: str, port: int) -> str:
    """The worker's base address."""
    bracketed = f"[{host}]" if _is_ipv6(host) else host
    return f"http://{bracketed}:{port}"


def _is_ipv6(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return False
    return True
