"""Checks of device memory on an NVIDIA host: weights, KV cache, residency, leaks."""

from __future__ import annotations

import asyncio

from m0_conformance.run.device import SETTLE_S, file_size, health, nvml
from m0_conformance.run.situation import Situation, needs, requirement
from m0_conformance.targets.nvidia import opens_device

MODEL = "benchmark:qwen2.5-0.5b"
"""Weights of 378 MB: large beside what a process needs anyway, small enough for any device."""
JOBS = 1000


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
