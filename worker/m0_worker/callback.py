"""The readiness callback (SYS-6.3.4): one POST once the socket listens. That it fails is logged, never fatal."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from m0_worker.cli import without_credentials

if TYPE_CHECKING:
    from m0_worker.config import WorkerConfig
    from m0_worker.narration import Narrator

_TIMEOUT_S = 5.0
_ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - none is bound


class CallbackError(Exception):
    """The callback was not accepted; the text says why."""


async def report_ready(config: WorkerConfig, vram_bytes: int, narrator: Narrator) -> None:
    """Tell `config.callback_url` that the worker is ready, and narrate how that went."""
    url = config.callback_url or ""
    shown = without_credentials(url)  # they are sent, never logged
    # A worker without a callback does not wait for the client's import, and one with it serves meanwhile.
    await asyncio.to_thread(__import__, "httpx2")
    from httpx2 import HTTPError, InvalidURL  # noqa: PLC0415 - imported at first use

    try:
        async with asyncio.timeout(_TIMEOUT_S):
            status = await _post(url, config, vram_bytes)
    except (OSError, UnicodeError, CallbackError, HTTPError, InvalidURL) as error:  # TimeoutError is an OSError
        reason = without_credentials(str(error).replace(url, shown)) or type(error).__name__
        narrator.event("callback", "WARN", outcome="failed", callback_url=shown, reason=reason)
    else:
        narrator.event("callback", outcome="delivered", callback_url=shown, status=status)


async def _post(url: str, config: WorkerConfig, vram_bytes: int) -> int:
    from httpx2 import AsyncClient  # noqa: PLC0415 - imported at first use

    own = await _own_address(url) if config.host in _ANYWHERE else config.host
    document = {
        "worker_id": config.worker_id,
        "vram_bytes": vram_bytes,
        "uri": uri(own, config.port),
        "model_ref": str(config.model),
        "gpu_device": config.gpu_device,
        "device": config.device,
    }
    # The manager of a pool is next door: no proxy of the environment stands between. Of its answer the status counts,
    # so a body is not waited for.
    async with (
        AsyncClient(trust_env=False, timeout=_TIMEOUT_S, headers={"connection": "close"}) as client,
        client.stream("POST", url, json=document) as answer,
    ):
        if not answer.is_success:
            raise CallbackError(f"the answer is HTTP {answer.status_code}")
        return answer.status_code


async def _own_address(url: str) -> str:
    """The address of this machine that leads to whoever is told. Nothing is sent: a datagram socket only looks it up.

    Raises:
        OSError: there is no way to the host.
    """
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    family, kind, protocol, _, address = (await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_DGRAM))[0]
    with socket.socket(family, kind, protocol) as route:
        route.connect(address)
        return str(route.getsockname()[0])


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
