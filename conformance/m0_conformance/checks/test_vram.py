"""Device memory on an NVIDIA host, seen from outside: NVML, /proc and /health.

Their judges: `vram.py`, `vram_shortage.py`, `reference_models.py`.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from m0_models import oversized

from m0_conformance.situation import Situation, needs, requirement
from m0_conformance.targets.nvidia import Nvml, NvmlUnavailableError, opens_device
from m0_conformance.targets.occupier import OccupierError, occupied_device

if TYPE_CHECKING:
    from m0_conformance.situation import Worker

MODEL = "benchmark:qwen2.5-0.5b"
"""Weights of 378 MB: large beside what a process needs anyway, small enough for any device."""
REFERENCE_SHAPES = ("benchmark:qwen2.5-0.5b", "benchmark:phi-3-mini", "benchmark:gpt-oss-20b")
DISK_FOR_SHAPES = 20 << 30
SETTLE_S = 1.0
"""The driver books freed memory a moment after the process let go of it."""
JOBS = 1000
LEFT_FREE = 256 << 20
"""Of the device while a neighbour holds the rest: less than 2,048 positions of Phi-3's KV cache (768 MiB)."""


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


@requirement(
    "M0-SYS-2.2.1/grows-device",
    "M0-SYS-2.2.1/host-bounded",
    "M0-SYS-6.3.1/device-resources",
    "M0-W-1011/counts-weights",
    "M0-W-1011/counts-kv-cache",
    "M0-W-1011/returns-to-baseline",
    "M0-W-1012/resident-true",
    "M0-W-1201/stays-quantized",
    "M0-W-1221/no-host-copy",
    "M0-W-1401/memory-freed",
)
@needs("command", "cuda")
async def test_life_of_a_model_in_device_memory(situation: Situation) -> None:
    """Device and host memory before, while loading, ready, during a job, after it, and after the exit."""
    driver = nvml(situation)
    situation.fact("file bytes", await file_size(situation, MODEL))
    probe = await situation.launch("probe", model="script", wait="ready")
    situation.fact("memory of a tiny model", driver.look(probe.running_process.pid).as_json())
    await probe.signal("SIGTERM")
    await probe.exited(30.0)
    await asyncio.sleep(SETTLE_S)

    situation.fact("device before", driver.used())
    worker = await situation.launch("worker", model=MODEL, wait="no")
    process = worker.running_process
    loading = asyncio.create_task(process.ready(120.0))
    peak = 0
    while not loading.done():
        peak = max(peak, driver.look(process.pid).host_private)
        await asyncio.sleep(0.02)
    situation.fact("host peak while loading", peak)
    await health(situation, "ready", worker)
    situation.fact("memory when ready", driver.look(process.pid).as_json())

    await situation.execute("first job", on=worker, prompt="hello", max_tokens=8, temperature=0.0)
    await health(situation, "before the job", worker)
    live = situation.start("long job", on=worker, prompt="hello", max_tokens=2048, temperature=1.0, seed=1)
    if await live.tokens(4):
        await health(situation, "during the job", worker)
        situation.fact("job ran when asked", live.count("end", "error") == 0)
    await situation.cancel("cancel", live.job_id, on=worker)
    await live.done()
    await health(situation, "after the job", worker)
    situation.fact("memory after the job", driver.look(process.pid).as_json())

    await worker.signal("SIGTERM")
    await worker.exited(30.0)
    await asyncio.sleep(SETTLE_S)
    situation.fact("device after the exit", driver.used())


@requirement("M0-SYS-6.3.2/own-context")
@needs("command", "cuda")
async def test_two_workers_are_two_contexts(situation: Situation) -> None:
    """The driver lists a compute process of its own for each of two workers."""
    driver = nvml(situation)
    before = set(driver.processes())
    workers = [await situation.launch(name, model="script") for name in ("one", "two")]
    after = set(driver.processes())
    situation.fact("worker processes", [worker.running_process.pid for worker in workers])
    situation.fact("new compute processes", sorted(after - before))
    situation.fact("hold a device file", [opens_device(worker.running_process.pid) for worker in workers])


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


@requirement("M0-W-1011/returns-to-baseline", "M0-W-1031/repeat-runs")
@needs("command", "cuda")
async def test_a_thousand_jobs(situation: Situation) -> None:
    """1,000 short greedy jobs: no byte of device memory stays behind, no token changes."""
    driver = nvml(situation)
    worker = await situation.launch("worker", model="script", wait="ready")
    process = worker.running_process
    for round_ in range(3):
        await situation.execute(f"warm-up {round_}", on=worker, max_tokens=4, temperature=0.0)
    await health(situation, "before the jobs", worker)
    before = driver.look(process.pid)
    texts: dict[str, int] = {}
    for _ in range(JOBS):
        stream = await situation.execute("job", on=worker, max_tokens=4, temperature=0.0)
        texts[stream.text] = texts.get(stream.text, 0) + 1
    await health(situation, "after the jobs", worker)
    after = driver.look(process.pid)
    situation.fact("jobs", JOBS)
    situation.fact("different texts", len(texts))
    situation.fact("memory before the jobs", before.as_json())
    situation.fact("memory after the jobs", after.as_json())


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
