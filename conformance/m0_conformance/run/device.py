"""Device memory as a check sees it: NVML and /health."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from m0_conformance.targets.nvidia import Nvml, NvmlUnavailableError

if TYPE_CHECKING:
    from m0_conformance.run.situation import Situation, Worker


SETTLE_S = 1.0
"""The driver books freed memory a moment after the process let go of it."""


def nvml(situation: Situation) -> Nvml:
    """NVML for the device under test; ends the check where the driver cannot be asked."""
    try:
        return Nvml(situation.gpu_device)
    except NvmlUnavailableError as error:
        situation.not_exercised(str(error))


async def health(situation: Situation, label: str, worker: Worker) -> None:
    """GET /health, kept under a label the judges know."""
    await situation.get(label, "/health", on=worker)


async def file_size(situation: Situation, model: str) -> int:
    """Bytes of a model's file."""
    path = await situation.model_path(model)
    return (await asyncio.to_thread(Path(path).stat)).st_size
