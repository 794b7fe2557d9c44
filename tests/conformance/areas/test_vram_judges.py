"""Every judge of device memory: green on an honest worker, red on a recording with exactly its defect."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from m0_conformance.judging.finding import Status
from m0_conformance.judging.judge import JUDGES, evaluate, load_all
from m0_conformance.recording.transcript import Chunk, Exchange, Launch, LogLine, Recording

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
FILE = 378 * MIB
IDLE = 400 * MIB
TOTAL = 80 << 30


def answer(label: str, number: int, **body: Any) -> Exchange:
    return Exchange(
        f"x{number}",
        label,
        "GET",
        "/health",
        status=200,
        headers=[("content-type", "application/json")],
        chunks=[Chunk(0.001, json.dumps(body).encode())],
        end="eof",
    )


def job(label: str, number: int, *events: tuple[str, dict[str, Any]]) -> Exchange:
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events).encode()
    return Exchange(
        f"x{number}",
        label,
        "POST",
        "/execute",
        request_body=json.dumps({"job_id": label, "prompt": "hello"}).encode(),
        status=200,
        headers=[("content-type", "text/event-stream")],
        chunks=[Chunk(0.001, body)],
        end="eof",
    )


def look(device: int, private: int, process: int | None = None) -> dict[str, int | None]:
    return {
        "device_used": device,
        "process_used": process,
        "host_private": private,
        "host_file": FILE,
        "device_mappings": 0,
    }


STARTED = ("started", {"job_id": "x", "model": "m", "started_at": "2026-01-01T00:00:00Z"})
TOKEN = ("token", {"t": "a", "i": 0})
END = ("end", {"tokens_out": 1, "decode_time_ms": 1})
OOM = ("error", {"code": "VRAM_OOM", "message": "no", "retriable": True})


def honest() -> Recording:
    return Recording(
        "test",
        (),
        exchanges=[
            answer("ready", 1, resident=True, vram_bytes_used=IDLE),
            answer("before the job", 2, resident=True, vram_bytes_used=IDLE),
            answer("during the job", 3, resident=True, vram_bytes_used=IDLE + 24 * MIB),
            answer("after the job", 4, resident=True, vram_bytes_used=IDLE),
            answer("before", 5, vram_bytes_used=IDLE),
            job("too large", 6, STARTED, OOM),
            answer("after the failure", 7, vram_bytes_used=IDLE),
            job("next", 8, STARTED, TOKEN, END),
            answer("after the next job", 9, vram_bytes_used=IDLE),
            answer("gpt-oss-20b: ready", 10, resident=True, quant_kind="MXFP4"),
            job("gpt-oss-20b: job", 11, STARTED, TOKEN, END),
        ],
        launches=[
            Launch(
                "too large",
                [],
                exit_code=1,
                exited_at=1.0,
                lines=[
                    LogLine("stderr", 0.5, f"INSUFFICIENT_VRAM /m/big.gguf on device 0 needs {2 * TOTAL} has {TOTAL}")
                ],
            ),
            Launch("gpt-oss-20b", [], ready_at=9.0),
            Launch("one", [], ready_at=1.0),
            Launch("two", [], ready_at=1.0),
        ],
        facts={
            "file bytes": FILE,
            "device before": 500 * MIB,
            "memory of a tiny model": look(900 * MIB, 200 * MIB),
            "memory when ready": look(500 * MIB + 800 * MIB, 260 * MIB),
            "memory after the job": look(500 * MIB + 800 * MIB, 262 * MIB),
            "host peak while loading": 270 * MIB,
            "device after the exit": 500 * MIB,
            "job ran when asked": True,
            "worker processes": [10, 11],
            "new compute processes": [10, 11],
            "model path": "/m/big.gguf",
            "gpu device": 0,
            "tensor bytes": 2 * TOTAL,
            "jobs": 1000,
            "different texts": 1,
            "memory before the jobs": look(900 * MIB, 200 * MIB, 400 * MIB),
            "memory after the jobs": look(900 * MIB, 200 * MIB, 400 * MIB),
            "gpt-oss-20b: file bytes": 11 << 30,
            "gpt-oss-20b: device before": 0,
            "gpt-oss-20b: memory": look(12 << 30, 300 * MIB),
        },
    )


def health(label: str, **changes: Any) -> Callable[[Recording], None]:
    def spoil(recording: Recording) -> None:
        exchange = recording.labelled(label)[0]
        body = json.loads(exchange.body) | changes
        exchange.chunks = [Chunk(0.001, json.dumps(body).encode())]

    return spoil


def fact(name: str, value: Any) -> Callable[[Recording], None]:
    def spoil(recording: Recording) -> None:
        recording.facts[name] = value

    return spoil


def events(label: str, *new: tuple[str, dict[str, Any]]) -> Callable[[Recording], None]:
    def spoil(recording: Recording) -> None:
        recording.labelled(label)[0].chunks = job(label, 0, *new).chunks

    return spoil


def launched(label: str, **changes: Any) -> Callable[[Recording], None]:
    def spoil(recording: Recording) -> None:
        launch = recording.launch(label)
        assert launch is not None
        for name, value in changes.items():
            setattr(launch, name, value)

    return spoil


DEFECTS = {
    "M0-SYS-2.2.1/grows-device": [
        fact("memory when ready", look(510 * MIB, 260 * MIB)),
        health("ready", resident=False),
    ],
    "M0-SYS-6.3.1/device-resources": [fact("memory after the job", look(1300 * MIB, 600 * MIB))],
    "M0-SYS-2.2.1/host-bounded": [fact("memory when ready", look(1300 * MIB, 640 * MIB))],
    "M0-W-1221/no-host-copy": [fact("host peak while loading", 640 * MIB)],
    "M0-W-1201/stays-quantized": [health("ready", vram_bytes_used=4 * FILE)],
    "M0-W-1011/counts-weights": [health("ready", vram_bytes_used=1), health("ready", vram_bytes_used=TOTAL)],
    "M0-W-1011/counts-kv-cache": [health("during the job", vram_bytes_used=IDLE)],
    "M0-W-1011/returns-to-baseline": [
        health("after the job", vram_bytes_used=IDLE + 1),
        fact("memory after the jobs", look(900 * MIB, 200 * MIB, 402 * MIB)),
    ],
    "M0-W-1012/resident-true": [health("during the job", resident=False)],
    "M0-W-1401/memory-freed": [fact("device after the exit", 900 * MIB)],
    "M0-SYS-6.3.2/own-context": [fact("new compute processes", [10])],
    "M0-W-1020/exit-one": [launched("too large", exit_code=2), launched("too large", exit_code=None)],
    "M0-W-1020/four-facts": [launched("too large", lines=[LogLine("stderr", 0.5, "/m/big.gguf does not fit")])],
    "M0-W-1021/oom-event": [events("too large", STARTED, ("error", {"code": "INTERNAL", "message": ""}))],
    "M0-W-1021/lives-on": [
        events("next", STARTED, OOM),
        health("after the failure", vram_bytes_used=IDLE + 1),
    ],
    "M0-W-1031/repeat-runs": [fact("different texts", 2)],
    "M0-W-1230/reference-models": [
        launched("gpt-oss-20b", ready_at=None),
        fact("gpt-oss-20b: memory", look(25_000_000_000, 0)),
        events("gpt-oss-20b: job", STARTED, OOM),
    ],
    "M0-W-1823/gpt-oss": [
        health("gpt-oss-20b: ready", quant_kind="F16"),
        events("gpt-oss-20b: job", STARTED, END),
        fact("gpt-oss-20b: memory", look(22 << 30, 0)),
    ],
}


MODULES = ("device_memory.", "device_limits.")


def statuses(clause: str, recording: Recording) -> set[Status]:
    load_all()
    (judge,) = [judge for judge in JUDGES if judge.clauses == (clause,) and judge.name.startswith(MODULES)]
    return {finding.status for finding in judge.function(recording)}


@pytest.mark.parametrize("clause", DEFECTS)
def test_an_honest_worker_passes(clause: str) -> None:
    assert statuses(clause, honest()) == {Status.PASS}


@pytest.mark.parametrize(
    ("clause", "spoil"), [(clause, spoil) for clause, spoils in DEFECTS.items() for spoil in spoils]
)
def test_the_defect_turns_the_clause_red(clause: str, spoil: Callable[[Recording], None]) -> None:
    recording = honest()
    spoil(recording)
    assert Status.FAIL in statuses(clause, recording)


def test_where_the_driver_hides_processes_the_device_file_decides() -> None:
    recording = honest()
    recording.facts |= {"new compute processes": [], "hold a device file": [True, True]}
    assert statuses("M0-SYS-6.3.2/own-context", recording) == {Status.PASS}
    recording.facts["hold a device file"] = [True, False]
    assert statuses("M0-SYS-6.3.2/own-context", recording) == {Status.FAIL}


@pytest.mark.parametrize("listed", [True, False])
def test_contexts_rest_on_the_workers_not_on_exchanges(listed: bool) -> None:
    facts = {"worker processes": [10, 11], "new compute processes": [10, 11] if listed else []}
    recording = Recording(
        "test",
        ("M0-SYS-6.3.2/own-context",),
        launches=[Launch("one", []), Launch("two", []), Launch("worker", [], shared=True)],
        facts=facts | {"hold a device file": [True, True]},
    )
    (finding,) = evaluate(recording)
    assert (finding.status, finding.exchanges) == (Status.PASS, ("launch:one", "launch:two"))


def test_without_observations_nothing_is_said() -> None:
    load_all()
    empty = Recording("test", ())
    assert [f for judge in JUDGES if judge.name.startswith("device_memory.") for f in judge.function(empty)] == []
