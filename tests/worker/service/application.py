"""The application in memory, over a scripted model: for what a socket would only hide."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from httpx2 import ASGITransport, AsyncClient, Response
from m0_worker.config import WorkerConfig
from m0_worker.http.app import Application
from m0_worker.http.callers import Callers
from m0_worker.narration import Narrator
from m0_worker.service import Identity, Service
from scripted_model import ByteTokenizer, ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIG = WorkerConfig(
    worker_id="7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90",
    model=Path("/model.gguf"),
    device="cpu",
    gpu_device=0,
    host="127.0.0.1",
    port=8080,
    max_tokens_out=100,
)
IDENTITY = Identity(
    model="scripted",
    quant_kind="F32",
    device="cpu",
    device_name="none",
    memory_kind="host",
    memory_total=None,
    extra={"architecture": "llama"},
)


class Rig:
    """An application, what it narrates, and a client."""

    def __init__(self, script: Sequence[int] = b"hello") -> None:
        self.log = io.StringIO()
        narrator = Narrator(CONFIG, self.log)
        self.service = Service(CONFIG, ScriptedModel(script), ByteTokenizer(), IDENTITY, narrator)
        self.application = Application(self.service, Callers(CONFIG.host))

    def request(self, method: str, path: str, **options: Any) -> Response:
        async def ask() -> Response:
            async with AsyncClient(
                transport=ASGITransport(self.application), base_url="http://127.0.0.1:8080"
            ) as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]
