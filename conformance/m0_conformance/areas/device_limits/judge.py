"""Judges of device memory that runs out, and the reference models' shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.judging import (
    Findings,
    Launch,
    Recording,
    describe,
    fail,
    judge,
    not_applicable,
    ok,
    parse_json,
    require,
    stream_of,
    streams,
    warn,
)
from m0_conformance.judging.memory_facts import MIB, body_of, facts_of, mib, vram_used

if TYPE_CHECKING:
    from collections.abc import Iterator


@judge("M0-W-1020/exit-one")
def exit_one(recording: Recording) -> Findings:
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
def four_facts(recording: Recording) -> Findings:
    """Path, device, bytes needed and bytes free, anywhere in what was written."""
    facts = facts_of(recording, "model path", "gpu device", "tensor bytes")
    if facts is None:
        return
    for launch in recording.launches:
        if launch.label != "too large" or launch.exit_code in (None, 0):
            continue
        text = "\n".join(line.text for line in launch.lines)
        missing = [what for what, there in _facts_in(text, *facts).items() if not there]
        yield require(
            not missing,
            launch,
            "fact-missing",
            f"the message lacks {', '.join(missing)}",
            expected="model path, device number, bytes needed and bytes free",
            actual=text[-300:] or "no output",
        )


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
def oom_event(recording: Recording) -> Findings:
    """VRAM_OOM, when the job could not have its memory."""
    for stream in (item for item in streams(recording) if item.exchange.label == "too large"):
        terminal = stream.terminal
        if terminal is None:
            continue  # M0-W-1311 judges a stream without an end
        if terminal.kind == "end":
            yield not_applicable(recording, "the job ran although device memory was taken: nothing was exhausted")
        else:
            yield require(
                terminal.data.get("code") == "VRAM_OOM",
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
                yield fail(exchange, "no-oom", "no VRAM_OOM", expected="error event VRAM_OOM")


@judge("M0-W-1021/lives-on")
def lives_on(recording: Recording) -> Findings:
    """/health answers after the failure, no memory is held, the next job ends well."""
    failed = [stream for stream in streams(recording) if stream.exchange.label == "too large"]
    if not any(stream.terminal is not None and stream.terminal.kind == "error" for stream in failed):
        return
    before, after, later = (
        vram_used(recording, name) for name in ("before", "after the failure", "after the next job")
    )
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
            yield fail(exchange, "next-job-failed", "the job after an exhausted one fails", expected="end")
    if before is not None and later is not None and later[1] > before[1]:
        yield fail(
            later[0], "memory-grew-after-oom", "memory is not back", expected=f"{before[1]:,}", actual=f"{later[1]:,}"
        )


REFERENCE_LIMIT = 24_000_000_000
"""Bytes of device memory that each reference model may take (M0-W-1230)."""


def _shapes(recording: Recording) -> Iterator[tuple[Launch, str]]:
    for launch in recording.launches:
        if f"{launch.label}: file bytes" in recording.facts:
            yield launch, launch.label


@judge("M0-W-1230/reference-models")
def reference_models(recording: Recording) -> Findings:
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
        else:
            yield require(
                any(job.terminal is not None and job.terminal.kind == "end" for job in jobs),
                launch,
                "shape-serves-no-job",
                f"no job of {name} ends well",
                expected="end",
                actual=", ".join(describe(job.exchange) for job in jobs) or "no answer",
                seen=f"{name}: {mib(taken)}",
            )


@judge("M0-W-1823/gpt-oss")
def gpt_oss(recording: Recording) -> Findings:
    """The shape of GPT-OSS-20B: MXFP4, resident, memory that fits the file, at least one token."""
    name = "gpt-oss-20b"
    found, facts = (
        body_of(recording, f"{name}: ready"),
        facts_of(recording, f"{name}: file bytes", f"{name}: memory", f"{name}: device before"),
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
        wrong.append(f"{mib(taken)} of device memory for a file of {mib(size)}")
    if tokens == 0:
        wrong.append("no token")
    yield require(
        not wrong,
        exchange,
        "bring-up",
        "GPT-OSS-20B's shape does not come up as it must",
        expected="MXFP4, resident, memory by the file's size, a token",
        actual="; ".join(wrong),
        seen=f"{mib(taken)} for a file of {mib(size)}, {tokens} tokens",
    )
