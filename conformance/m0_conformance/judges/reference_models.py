"""The reference models' shapes on a device: each loads, fits and serves; one greedy job says the same every time."""

from collections.abc import Iterator

from m0_conformance.finding import Finding
from m0_conformance.judges.memory_facts import body_of, facts_of, mib
from m0_conformance.judges.registry import fail, judge, ok
from m0_conformance.judges.views import describe, stream_of
from m0_conformance.wire.transcript import Launch, Recording

REFERENCE_LIMIT = 24_000_000_000
"""Bytes of device memory that each reference model may take (M0-W-1230)."""


@judge("M0-W-1031/repeat-runs")
def repeat_runs(recording: Recording) -> Iterator[Finding]:
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
            yield ok(launch, f"{name}: {mib(taken)}")


@judge("M0-W-1823/gpt-oss")
def gpt_oss(recording: Recording) -> Iterator[Finding]:
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
    if wrong:
        yield fail(
            exchange,
            "bring-up",
            "GPT-OSS-20B's shape does not come up as it must",
            expected="MXFP4, resident, memory by the file's size, a token",
            actual="; ".join(wrong),
        )
    else:
        yield ok(exchange, f"{mib(taken)} for a file of {mib(size)}, {tokens} tokens")
