"""Checks of device memory that runs out, and the reference models' shapes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from m0_models import oversized

from m0_conformance.run.device import SETTLE_S, file_size, health, nvml
from m0_conformance.run.situation import Situation, needs, requirement
from m0_conformance.targets.occupier import OccupierError, occupied_device

REFERENCE_SHAPES = ("benchmark:qwen2.5-0.5b", "benchmark:phi-3-mini", "benchmark:gpt-oss-20b")
DISK_FOR_SHAPES = 20 << 30
LEFT_FREE = 256 << 20
"""Of the device while a neighbour holds the rest: less than 2,048 positions of Phi-3's KV cache (768 MiB)."""


@requirement("M0-W-1020/exit-one", "M0-W-1020/four-facts")
@needs("command", "cuda")
async def test_model_larger_than_the_device(situation: Situation) -> None:
    """A sparse file whose tensors exceed the device's memory is refused at start."""
    total = nvml(situation).total()
    with tempfile.TemporaryDirectory(prefix="m0-oversized-") as folder:
        path = Path(folder) / "oversized.gguf"
        situation.fact("tensor bytes", oversized.write(path, 2 * total))
        situation.fact("model path", str(path))
        situation.fact("gpu device", situation.gpu_device)
        await situation.launch("too large", model=str(path), wait="exit")


@requirement("M0-W-1021/oom-event", "M0-W-1021/lives-on")
@needs("command", "cuda")
async def test_job_larger_than_the_device(situation: Situation) -> None:
    """Device memory is taken away while the worker runs; a job that needs a large KV cache must fail cleanly."""
    driver = nvml(situation)
    worker = await situation.launch("worker", model="benchmark:phi-3-mini", wait="ready", within=180.0)
    await health(situation, "before", worker)
    try:
        async with occupied_device(situation.gpu_device, LEFT_FREE) as taken:
            situation.fact("bytes taken", taken)
            situation.fact("device used", driver.used())
            await situation.execute("too large", on=worker, prompt="hello", max_tokens=2048, temperature=0.0)
            await health(situation, "after the failure", worker)
    except OccupierError as error:
        situation.not_exercised(f"device memory could not be taken away: {error}")
    await situation.execute("next", on=worker, prompt="hello", max_tokens=8, temperature=0.0)
    await health(situation, "after the next job", worker)


@requirement("M0-W-1230/reference-models", "M0-W-1823/gpt-oss")
@needs("command", "cuda")
async def test_shapes_of_the_reference_models(situation: Situation) -> None:
    """The three shapes, one after the other: loads within 24 GB, reports its format, serves a job."""
    driver = nvml(situation)
    if shutil.disk_usage(tempfile.gettempdir()).free < DISK_FOR_SHAPES:
        situation.not_exercised("the three files need 20 GB of temporary disk space")
    for model in REFERENCE_SHAPES:
        name = model.partition(":")[2]
        situation.fact(f"{name}: file bytes", await file_size(situation, model))
        situation.fact(f"{name}: device before", driver.used())
        worker = await situation.launch(name, model=model, wait="ready", within=240.0)
        await health(situation, f"{name}: ready", worker)
        situation.fact(f"{name}: memory", driver.look(worker.running_process.pid).as_json())
        await situation.execute(f"{name}: job", on=worker, prompt="hello", max_tokens=8, temperature=0.0)
        await worker.signal("SIGTERM")
        await worker.exited(30.0)
        await asyncio.sleep(SETTLE_S)
