"""Device memory on an NVIDIA host. Every number is a fact the check took from NVML, /proc or a /health answer."""

from collections.abc import Iterator
from typing import Any

from conformance.contract import parse_json
from conformance.finding import Finding
from conformance.judges.registry import fail, judge, not_applicable, note, ok, warn
from conformance.judges.views import describe, stream_of, streams
from conformance.wire.transcript import Exchange, Json, Launch, Recording

MIB = 1 << 20
NVML_SLACK = 1 * MIB
"""The driver books memory in pages of 2 MiB and its own tables by the MiB."""
NEIGHBOUR_SLACK = 64 * MIB
"""Other tenants of the device may come and go a little."""
REFERENCE_LIMIT = 24_000_000_000
"""Bytes of device memory that each reference model may take (M0-W-1230)."""


def _body(recording: Recording, label: str) -> tuple[Exchange, dict[str, Json]] | None:
    for exchange in recording.labelled(label):
        body = parse_json(exchange.body).value
        if exchange.status is not None and isinstance(body, dict):
            return exchange, body
    return None


def _used(recording: Recording, label: str) -> tuple[Exchange, int] | None:
    """vram_bytes_used of the /health answer under this label."""
    found = _body(recording, label)
    if found is None:
        return None
    value = found[1].get("vram_bytes_used")
    return (found[0], value) if isinstance(value, int) and not isinstance(value, bool) else None


def _mib(amount: float) -> str:
    return f"{amount / MIB:,.1f} MiB"


def _facts(recording: Recording, *names: str) -> list[Any] | None:
    values = [recording.facts.get(name) for name in names]
    return None if any(value is None for value in values) else values


@judge("M0-SYS-2.2.1/grows-device")
def grows_device(recording: Recording) -> Iterator[Finding]:
    """The device holds at least the file's bytes more than before, and the worker says it is resident."""
    facts, ready = _facts(recording, "device before", "file bytes", "memory when ready"), _body(recording, "ready")
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
            expected=f"at least {_mib(0.9 * size)}",
            actual=_mib(grown),
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
        yield ok(ready[0], f"device memory grew by {_mib(grown)} for a file of {_mib(size)}")


@judge("M0-SYS-6.3.1/device-resources")
def device_resources(recording: Recording) -> Iterator[Finding]:
    """While a job runs, what it needs is counted on the device, and the process's host memory stays as it was."""
    facts = _facts(recording, "memory when ready", "memory after the job", "file bytes")
    if facts is None:
        return
    ready, after, size = facts
    grown = after["host_private"] - ready["host_private"]
    if grown > 0.5 * size:
        yield fail(
            recording,
            "host-memory-grew",
            "serving jobs made the process's private host memory grow by the size of the model",
            expected=f"less than {_mib(0.5 * size)}",
            actual=_mib(grown),
        )
    else:
        yield ok(recording, f"private host memory changed by {_mib(grown)} over two jobs")


@judge("M0-SYS-2.2.1/host-bounded")
def host_bounded(recording: Recording) -> Iterator[Finding]:
    """A worker with a large model holds hardly more private host memory than one with a tiny model."""
    yield from _host(recording, "memory when ready", "host-copy", "the ready worker holds a copy of the weights")


@judge("M0-W-1221/no-host-copy")
def no_host_copy(recording: Recording) -> Iterator[Finding]:
    """At no moment of the load did private host memory hold the file."""
    yield from _host(
        recording, "host peak while loading", "copied-while-loading", "loading copied the file to the heap"
    )


def _host(recording: Recording, name: str, key: str, message: str) -> Iterator[Finding]:
    facts = _facts(recording, "memory of a tiny model", name, "file bytes")
    if facts is None:
        return
    tiny, seen, size = facts
    private = seen if isinstance(seen, int) else seen["host_private"]
    more = private - tiny["host_private"]
    if more > 0.6 * size:
        yield fail(
            recording,
            key,
            f"{message}: private host memory against a worker with a tiny model",
            expected=f"less than {_mib(0.6 * size)} more (file {_mib(size)})",
            actual=f"{_mib(more)} more",
        )
    else:
        yield ok(recording, f"{_mib(more)} more private host memory than with a tiny model; file {_mib(size)}")


@judge("M0-W-1201/stays-quantized")
def stays_quantized(recording: Recording) -> Iterator[Finding]:
    """Weights of 4 to 6 bits a value would take three to six times the file's size as floats."""
    facts, ready = _facts(recording, "file bytes"), _used(recording, "ready")
    if facts is None or ready is None:
        return
    size = facts[0]
    if ready[1] > 1.6 * size:
        yield fail(
            ready[0],
            "weights-unpacked",
            "the idle worker uses far more device memory than the file has bytes",
            expected=f"at most {_mib(1.6 * size)}",
            actual=_mib(ready[1]),
        )
    else:
        yield ok(ready[0], f"{_mib(ready[1])} for a file of {_mib(size)}")


@judge("M0-W-1011/counts-weights")
def counts_weights(recording: Recording) -> Iterator[Finding]:
    """vram_bytes_used covers the weights and does not exceed what the driver says the process holds."""
    facts = _facts(recording, "file bytes", "memory when ready", "device before")
    ready = _used(recording, "ready")
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
            expected=f"at least {_mib(0.9 * size)}",
            actual=_mib(used),
        )
    elif used > ceiling:
        yield fail(
            exchange,
            "more-than-the-driver-says",
            "vram_bytes_used is more than the driver says",
            expected=f"at most {_mib(ceiling)}",
            actual=_mib(used),
        )
    else:
        yield ok(exchange, f"{_mib(used)} said, {_mib(ceiling)} at most by the driver")


@judge("M0-W-1011/counts-kv-cache")
def counts_kv_cache(recording: Recording) -> Iterator[Finding]:
    """The number rises while a job holds its KV cache."""
    before, during = _used(recording, "before the job"), _used(recording, "during the job")
    if before is None or during is None or recording.facts.get("job ran when asked") is not True:
        return
    if during[1] > before[1]:
        yield ok(during[0], f"{_mib(during[1] - before[1])} more while the job runs")
    else:
        yield fail(
            during[0],
            "kv-cache-not-counted",
            "vram_bytes_used does not rise while a job runs",
            expected=f"more than {before[1]:,} bytes",
            actual=f"{during[1]:,} bytes",
        )


@judge("M0-W-1011/returns-to-baseline")
def returns_to_baseline(recording: Recording) -> Iterator[Finding]:
    """After jobs the worker counts to the byte what it counted before; after many, the driver agrees."""
    for earlier, later in (("before the job", "after the job"), ("before the jobs", "after the jobs")):
        before, after = _used(recording, earlier), _used(recording, later)
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
    facts = _facts(recording, "memory before the jobs", "memory after the jobs", "jobs")
    if facts is not None:
        yield from _leak(recording, *facts)


def _leak(recording: Recording, before: Json, after: Json, jobs: int) -> Iterator[Finding]:
    name = "device_used" if before["process_used"] is None or after["process_used"] is None else "process_used"
    grown = after[name] - before[name]
    if grown > NVML_SLACK:
        yield fail(
            recording,
            "device-memory-leak",
            f"device memory grew over {jobs} jobs",
            expected=f"at most {_mib(NVML_SLACK)} by the driver",
            actual=_mib(grown),
        )
    else:
        yield ok(recording, f"{_mib(grown)} by the driver over {jobs} jobs")


@judge("M0-W-1012/resident-true")
def resident_true(recording: Recording) -> Iterator[Finding]:
    """Every /health answer of the life says resident true."""
    for label in ("ready", "before the job", "during the job", "after the job"):
        found = _body(recording, label)
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
def memory_freed(recording: Recording) -> Iterator[Finding]:
    """The device's used memory is back after the exit."""
    facts = _facts(recording, "device before", "device after the exit")
    if facts is None:
        return
    left = facts[1] - facts[0]
    if left > NEIGHBOUR_SLACK:
        yield fail(
            recording,
            "device-memory-held",
            "device memory is still held after the worker's exit",
            expected=f"at most {_mib(NEIGHBOUR_SLACK)} more than before its start",
            actual=_mib(left),
        )
    else:
        yield ok(recording, f"{_mib(left)} more than before the start")


@judge("M0-SYS-6.3.2/own-context")
def own_context(recording: Recording) -> Iterator[Finding]:
    """Two workers, two new compute processes; where the driver hides processes, each holds the device file itself."""
    facts = _facts(recording, "worker processes", "new compute processes")
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


@judge("M0-W-1020/exit-one")
def exit_one(recording: Recording) -> Iterator[Finding]:
    """Exit code 1, and by itself."""
    for launch in recording.launches:
        if launch.label != "too large":
            continue
        if launch.exit_code == 1:
            yield ok(launch)
        else:
            actual = "still running" if launch.exit_code is None else f"exit code {launch.exit_code}"
            yield fail(
                launch,
                "no-exit-one",
                "a model that does not fit did not end the start with 1",
                expected="exit code 1",
                actual=actual,
            )


@judge("M0-W-1020/four-facts")
def four_facts(recording: Recording) -> Iterator[Finding]:
    """Path, device, bytes needed and bytes free, anywhere in what was written."""
    facts = _facts(recording, "model path", "gpu device", "tensor bytes")
    if facts is None:
        return
    for launch in recording.launches:
        if launch.label != "too large" or launch.exit_code in (None, 0):
            continue
        text = "\n".join(line.text for line in launch.lines)
        missing = [what for what, there in _facts_in(text, *facts).items() if not there]
        if missing:
            yield fail(
                launch,
                "fact-missing",
                f"the message lacks {', '.join(missing)}",
                expected="model path, device number, bytes needed and bytes free",
                actual=text[-300:] or "no output",
            )
        else:
            yield ok(launch)


def _facts_in(text: str, path: str, device: int, needed: int) -> dict[str, bool]:
    numbers = {int(word) for word in _words(text) if word.isdigit() and len(word) < 19}
    return {
        "the model path": path in text,
        "the device number": device in numbers,
        "the bytes needed": any(abs(number - needed) <= 0.2 * needed for number in numbers),
        "the bytes free": any(MIB < number < 0.8 * needed for number in numbers),
    }


def _words(text: str) -> list[str]:
    cleaned = "".join(letter if letter.isdigit() else " " if letter not in ",_" else "" for letter in text)
    return cleaned.split()


@judge("M0-W-1021/oom-event")
def oom_event(recording: Recording) -> Iterator[Finding]:
    """VRAM_OOM, when the job could not have its memory."""
    for stream in (item for item in streams(recording) if item.exchange.label == "too large"):
        terminal = stream.terminal
        if terminal is None:
            continue  # M0-W-1311 judges a stream without an end
        if terminal.kind == "end":
            yield not_applicable(recording, "the job ran although device memory was taken: nothing was exhausted")
        elif terminal.data.get("code") == "VRAM_OOM":
            yield ok(stream)
        else:
            yield fail(
                stream,
                "other-code",
                "exhausted device memory is reported under another code",
                expected="VRAM_OOM",
                actual=str(terminal.data.get("code")),
                at=terminal,
            )
    for exchange in recording.labelled("too large"):
        if exchange.status not in (None, 200):
            body = parse_json(exchange.body).value
            code = body.get("code") if isinstance(body, dict) else None
            if code == "VRAM_OOM":
                yield warn(exchange, "before-headers", "VRAM_OOM came as an HTTP error in place of an event")
            else:
                yield fail(
                    exchange, "no-oom", "no VRAM_OOM", expected="error event VRAM_OOM", actual=describe(exchange)
                )


@judge("M0-W-1021/lives-on")
def lives_on(recording: Recording) -> Iterator[Finding]:
    """/health answers after the failure, no memory is held, the next job ends well."""
    failed = [stream for stream in streams(recording) if stream.exchange.label == "too large"]
    if not any(stream.terminal is not None and stream.terminal.kind == "error" for stream in failed):
        return
    before, after, later = (_used(recording, name) for name in ("before", "after the failure", "after the next job"))
    if after is None:
        yield fail(
            recording,
            "gone-after-oom",
            "/health does not answer after device memory was exhausted",
            expected="an answer",
            actual="none",
        )
        return
    if before is not None and after[1] > before[1]:
        yield fail(
            after[0],
            "memory-held-after-oom",
            "device memory of the failed job is still held",
            expected=f"at most {before[1]:,} bytes",
            actual=f"{after[1]:,} bytes",
        )
    for exchange in recording.labelled("next"):
        stream = stream_of(exchange)
        if stream.terminal is not None and stream.terminal.kind == "end":
            yield ok(stream)
        else:
            yield fail(
                exchange,
                "next-job-failed",
                "the job after an exhausted one fails",
                expected="end",
                actual=describe(exchange),
            )
    if before is not None and later is not None and later[1] > before[1]:
        yield fail(
            later[0], "memory-grew-after-oom", "memory is not back", expected=f"{before[1]:,}", actual=f"{later[1]:,}"
        )


@judge("M0-W-1031/repeat-runs")
def repeat_runs(recording: Recording) -> Iterator[Finding]:
    """Every repetition of the greedy job said the same."""
    facts = _facts(recording, "jobs", "different texts")
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


def _shapes(recording: Recording) -> Iterator[tuple[Launch, str]]:
    for launch in recording.launches:
        if f"{launch.label}: file bytes" in recording.facts:
            yield launch, launch.label


@judge("M0-W-1230/reference-models")
def reference_models(recording: Recording) -> Iterator[Finding]:
    """Each shape loads, takes less than 24 GB, and serves a job."""
    for launch, name in _shapes(recording):
        before, memory = recording.facts.get(f"{name}: device before"), recording.facts.get(f"{name}: memory")
        jobs = [stream_of(exchange) for exchange in recording.labelled(f"{name}: job")]
        if before is None or memory is None:
            continue
        taken = memory["device_used"] - before
        if launch.ready_at is None:
            yield fail(
                launch, "shape-not-loaded", f"the shape of {name} does not load", expected="ready", actual="not ready"
            )
        elif taken >= REFERENCE_LIMIT:
            yield fail(
                launch, "over-24-gb", f"{name} takes too much", expected="under 24 GB", actual=f"{taken:,} bytes"
            )
        elif not any(job.terminal is not None and job.terminal.kind == "end" for job in jobs):
            yield fail(
                launch,
                "shape-serves-no-job",
                f"no job of {name} ends well",
                expected="end",
                actual=", ".join(describe(job.exchange) for job in jobs) or "no answer",
            )
        else:
            yield ok(launch, f"{name}: {_mib(taken)}")


@judge("M0-W-1823/gpt-oss")
def gpt_oss(recording: Recording) -> Iterator[Finding]:
    """The shape of GPT-OSS-20B: MXFP4, resident, memory that fits the file, at least one token."""
    name = "gpt-oss-20b"
    found, facts = (
        _body(recording, f"{name}: ready"),
        _facts(recording, f"{name}: file bytes", f"{name}: memory", f"{name}: device before"),
    )
    if found is None or facts is None:
        return
    exchange, body = found
    size, memory, before = facts
    taken = memory["device_used"] - before
    tokens = sum(len(stream_of(job).tokens) for job in recording.labelled(f"{name}: job"))
    said = {"quant_kind": ("MXFP4", body.get("quant_kind")), "resident": (True, body.get("resident"))}
    wrong = [f"{key} {actual!r}" for key, (wanted, actual) in said.items() if wanted != actual]
    if not 0.8 * size <= taken <= 1.2 * size + 4 * (1 << 30):
        wrong.append(f"{_mib(taken)} of device memory for a file of {_mib(size)}")
    if tokens == 0:
        wrong.append("no token")
    if wrong:
        yield fail(
            exchange,
            "bring-up",
            "GPT-OSS-20B's shape does not come up as it must",
            expected="MXFP4, resident, memory by the file's size, a token",
            actual="; ".join(wrong),
        )
    else:
        yield ok(exchange, f"{_mib(taken)} for a file of {_mib(size)}, {tokens} tokens")
