"""Judges of device memory on an NVIDIA host: weights, KV cache, residency, leaks."""

from __future__ import annotations

from m0_conformance.judging import Findings, Json, Recording, fail, judge, note, ok, require
from m0_conformance.judging.memory_facts import MIB, body_of, facts_of, mib, vram_used

NVML_SLACK = 1 * MIB
"""The driver books memory in pages of 2 MiB and its own tables by the MiB."""
NEIGHBOUR_SLACK = 64 * MIB
"""Other tenants of the device may come and go a little."""


@judge("M0-SYS-2.2.1/grows-device")
def grows_device(recording: Recording) -> Findings:
    """The device holds at least the file's bytes more than before, and the worker says it is resident."""
    facts, ready = facts_of(recording, "device before", "file bytes", "memory when ready"), body_of(recording, "ready")
    if facts is None or ready is None:
        return
    before, size, memory = facts
    grown = memory["device_used"] - before
    # Token texts, merges and scales of a file need no device memory: nine tenths of it are weights in every real file.
    if grown < 0.9 * size:
        yield fail(
            ready[0],
            "device-memory-did-not-grow",
            "loading the model did not take the device memory that its weights need",
            expected=f"at least {mib(0.9 * size)}",
            actual=mib(grown),
        )
    elif ready[1].get("resident") is not True:
        yield fail(
            ready[0],
            "not-resident",
            "/health does not say that the model is resident",
            expected="resident true",
            actual=str(ready[1].get("resident")),
        )
    else:
        yield ok(ready[0], f"device memory grew by {mib(grown)} for a file of {mib(size)}")


@judge("M0-SYS-6.3.1/device-resources")
def device_resources(recording: Recording) -> Findings:
    """While a job runs, what it needs is counted on the device, and the process's host memory stays as it was."""
    facts = facts_of(recording, "memory when ready", "memory after the job", "file bytes")
    if facts is None:
        return
    ready, after, size = facts
    grown = after["host_private"] - ready["host_private"]
    yield require(
        grown <= 0.5 * size,
        recording,
        "host-memory-grew",
        "serving jobs made the process's private host memory grow by the size of the model",
        expected=f"less than {mib(0.5 * size)}",
        actual=mib(grown),
        seen=f"private host memory changed by {mib(grown)} over two jobs",
    )


@judge("M0-SYS-2.2.1/host-bounded")
def host_bounded(recording: Recording) -> Findings:
    """A worker with a large model holds hardly more private host memory than one with a tiny model."""
    yield from _host(recording, "memory when ready", "host-copy", "the ready worker holds a copy of the weights")


@judge("M0-W-1221/no-host-copy")
def no_host_copy(recording: Recording) -> Findings:
    """At no moment of the load did private host memory hold the file."""
    yield from _host(
        recording, "host peak while loading", "copied-while-loading", "loading copied the file to the heap"
    )


def _host(recording: Recording, name: str, key: str, message: str) -> Findings:
    facts = facts_of(recording, "memory of a tiny model", name, "file bytes")
    if facts is None:
        return
    tiny, seen, size = facts
    private = seen if isinstance(seen, int) else seen["host_private"]
    more = private - tiny["host_private"]
    yield require(
        more <= 0.6 * size,
        recording,
        key,
        f"{message}: private host memory against a worker with a tiny model",
        expected=f"less than {mib(0.6 * size)} more (file {mib(size)})",
        actual=f"{mib(more)} more",
        seen=f"{mib(more)} more private host memory than with a tiny model; file {mib(size)}",
    )


@judge("M0-W-1201/stays-quantized")
def stays_quantized(recording: Recording) -> Findings:
    """Weights of 4 to 6 bits a value would take three to six times the file's size as floats."""
    facts, ready = facts_of(recording, "file bytes"), vram_used(recording, "ready")
    if facts is None or ready is None:
        return
    size = facts[0]
    if ready[1] > 1.6 * size:
        yield fail(
            ready[0],
            "weights-unpacked",
            "the idle worker uses far more device memory than the file has bytes",
            expected=f"at most {mib(1.6 * size)}",
            actual=mib(ready[1]),
        )
    else:
        yield ok(ready[0], f"{mib(ready[1])} for a file of {mib(size)}")


@judge("M0-W-1011/counts-weights")
def counts_weights(recording: Recording) -> Findings:
    """vram_bytes_used covers the weights and does not exceed what the driver says the process holds."""
    facts = facts_of(recording, "file bytes", "memory when ready", "device before")
    ready = vram_used(recording, "ready")
    if facts is None or ready is None:
        return
    size, memory, before = facts
    exchange, used = ready
    held = memory["process_used"]
    ceiling = (memory["device_used"] - before + NEIGHBOUR_SLACK) if held is None else held + NVML_SLACK
    if used < 0.9 * size:
        yield fail(
            exchange,
            "weights-not-counted",
            "vram_bytes_used is smaller than the model's tensors",
            expected=f"at least {mib(0.9 * size)}",
            actual=mib(used),
        )
    else:
        yield require(
            used <= ceiling,
            exchange,
            "more-than-the-driver-says",
            "vram_bytes_used is more than the driver says",
            expected=f"at most {mib(ceiling)}",
            actual=mib(used),
            seen=f"{mib(used)} said, {mib(ceiling)} at most by the driver",
        )


@judge("M0-W-1011/counts-kv-cache")
def counts_kv_cache(recording: Recording) -> Findings:
    """The number rises while a job holds its KV cache."""
    before, during = vram_used(recording, "before the job"), vram_used(recording, "during the job")
    if before is None or during is None or recording.facts.get("job ran when asked") is not True:
        return
    if during[1] > before[1]:
        yield ok(during[0], f"{mib(during[1] - before[1])} more while the job runs")
    else:
        yield fail(
            during[0],
            "kv-cache-not-counted",
            "vram_bytes_used does not rise while a job runs",
            expected=f"more than {before[1]:,} bytes",
            actual=f"{during[1]:,} bytes",
        )


@judge("M0-W-1011/returns-to-baseline")
def returns_to_baseline(recording: Recording) -> Findings:
    """After jobs the worker counts to the byte what it counted before; after many, the driver agrees."""
    for earlier, later in (("before the job", "after the job"), ("before the jobs", "after the jobs")):
        before, after = vram_used(recording, earlier), vram_used(recording, later)
        if before is None or after is None:
            continue
        if before[1] == after[1]:
            yield ok(after[0], f"{after[1]:,} bytes {earlier} and {later}")
        else:
            yield fail(
                after[0],
                "not-back-to-baseline",
                f"vram_bytes_used {later} differs from that {earlier}",
                expected=f"{before[1]:,} bytes",
                actual=f"{after[1]:,} bytes",
            )
    facts = facts_of(recording, "memory before the jobs", "memory after the jobs", "jobs")
    if facts is not None:
        yield from _leak(recording, *facts)


def _leak(recording: Recording, before: Json, after: Json, jobs: int) -> Findings:
    name = "device_used" if before["process_used"] is None or after["process_used"] is None else "process_used"
    grown = after[name] - before[name]
    yield require(
        grown <= NVML_SLACK,
        recording,
        "device-memory-leak",
        f"device memory grew over {jobs} jobs",
        expected=f"at most {mib(NVML_SLACK)} by the driver",
        actual=mib(grown),
        seen=f"{mib(grown)} by the driver over {jobs} jobs",
    )


@judge("M0-W-1012/resident-true")
def resident_true(recording: Recording) -> Findings:
    """Every /health answer of the life says resident true."""
    for label in ("ready", "before the job", "during the job", "after the job"):
        found = body_of(recording, label)
        if found is None:
            continue
        if found[1].get("resident") is True:
            yield ok(found[0])
        else:
            yield fail(
                found[0],
                "not-resident",
                f"resident is not true {label}",
                expected="true",
                actual=str(found[1].get("resident")),
            )


@judge("M0-W-1401/memory-freed")
def memory_freed(recording: Recording) -> Findings:
    """The device's used memory is back after the exit."""
    facts = facts_of(recording, "device before", "device after the exit")
    if facts is None:
        return
    left = facts[1] - facts[0]
    yield require(
        left <= NEIGHBOUR_SLACK,
        recording,
        "device-memory-held",
        "device memory is still held after the worker's exit",
        expected=f"at most {mib(NEIGHBOUR_SLACK)} more than before its start",
        actual=mib(left),
        seen=f"{mib(left)} more than before the start",
    )


@judge("M0-SYS-6.3.2/own-context")
def own_context(recording: Recording) -> Findings:
    """Two workers, two new compute processes; where the driver hides processes, each holds the device file itself."""
    facts = facts_of(recording, "worker processes", "new compute processes")
    if facts is None:
        return
    new, holding = facts[1], recording.facts.get("hold a device file") or []
    listed = len(new) >= len(facts[0])
    if listed or (not new and holding and all(holding)):
        words = "listed as a compute process" if listed else "the driver lists no processes; it holds the device file"
        for launch in recording.launches:  # this check asks nothing over HTTP: it rests on the workers themselves
            if not launch.shared:
                yield ok(launch, words)
    elif not new and not holding:
        yield note(recording, "driver-hides-processes", "the driver lists no compute process at all on this host")
    else:
        yield fail(
            recording,
            "shared-context",
            "two workers are not two users of the device",
            expected=f"{len(facts[0])} compute processes",
            actual=f"{len(new)} compute processes, device file held: {holding}",
        )


@judge("M0-W-1031/repeat-runs")
def repeat_runs(recording: Recording) -> Findings:
    """Every repetition of the greedy job said the same."""
    facts = facts_of(recording, "jobs", "different texts")
    if facts is None:
        return
    if facts[1] == 1:
        yield ok(recording, f"{facts[0]} runs, one text")
    else:
        yield fail(
            recording,
            "tokens-changed",
            f"{facts[0]} runs of one greedy job differ",
            expected="one text",
            actual=f"{facts[1]} texts",
        )
