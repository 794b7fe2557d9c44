"""A report such as the suite writes, over the real registry, with faults of every kind planted in it.

`bad` is a worker with many faults, `good` one without; both were judged in m0-process on a CPU. The recordings are real
`Recording`s, stored under their digests, so that every view reads them the way it reads a run's.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from m0_conformance.report.document import Report, seal
from m0_conformance.spec.registry import Clause, load_registry
from report_streams import (
    HOSTILE,
    START_UP,
    answer,
    event,
    execute,
    process,
    recording,
    steady,
    words,
)

if TYPE_CHECKING:
    from pathlib import Path

    from m0_conformance.recording.transcript import Recording

JUDGED = ("m0-wire", "m0-process")
PASSING_RECORDINGS = 16


@dataclass
class Fault:
    """A planted deviation."""

    status: str
    key: str = ""
    message: str = ""
    expected: str = ""
    actual: str = ""
    parts: Recording | None = None
    at: dict[str, Any] | None = None
    lines: list[str] = field(default_factory=list)
    reason: str | None = None
    caused_by: str | None = None


def place(exchange: str | None, number: int | None, t_ms: float, byte: int | None = None) -> dict[str, Any]:
    return {"exchange": exchange, "event": number, "byte": byte, "t_ms": t_ms}


def log_place(launch: str, number: int, t_ms: float) -> dict[str, Any]:
    return {**place(None, number, t_ms), "launch": launch}


def faults(rng: random.Random) -> dict[str, Fault]:
    """What is wrong with the bad worker, by clause."""
    late = recording("test_cancel.py::test_running", [
        execute(words(90), steady(90, 0.009, rng), last=event("error", {"code": "CANCELLED", "message": "cancelled"})),
        answer(202, {}, exchange="x2", label="cancel", path="/cancel", t0=0.2, method="POST"),
    ])  # fmt: skip
    replayed = replayed_stream()
    return {
        "M0-W-1824/no-replacement": broken_character(rng),
        "M0-W-1310/event-line": Fault(
            "FAIL",
            "replayed-stream",
            "all tokens arrived together at the end of the generation",
            "the first token arrives before half of the stream's time has passed",
            "60 tokens within 2.4 ms, after 1.21 s of silence",
            replayed,
            place("x1", 1, 1210.0),
        ),
        "M0-W-1311/stream-closes": stalled_stream(rng),
        "M0-W-1330/within-5s": Fault(
            "FAIL",
            "late-terminal",
            "decoding went on after /cancel was accepted",
            "terminal event within 100 ms of the 202",
            "error CANCELLED 611 ms after the 202, with 68 token events in between",
            late,
            place("x1", 91, 821.0),
        ),
        "M0-SYS-6.3.5/stops-early": Fault(
            "FAIL",
            "late-terminal",
            "cancel was not handled promptly",
            "terminal event within 100 ms",
            "611 ms",
            late,
            place("x2", None, 2.0),
            caused_by="M0-W-1330/within-5s",
        ),
        "M0-W-1312/token-fields": hostile_payload(rng),
        "M0-W-1340/sigterm-exit-zero": deaf_process(),
        "M0-W-1621/percentages": Fault(
            "WARN",
            "progress-missing",
            "load progress lacks 50, 75 and 100",
            "percent 0, 25, 50, 75, 100",
            "percent 0, 25",
            recording("test_logs.py::test_progress", [process(START_UP[:4] + START_UP[-1:])]),
            log_place("worker", 3, 300.0),
        ),
        "M0-W-1604/p99": Fault(
            "FAIL",
            "slow-health",
            "/health was slow while a job ran",
            "p99 below 10 ms",
            "p99 14 ms [12, 19] at 95 %, n = 60",
            replayed,
            place("x4", None, 2.0),
        ),
        "M0-W-1301/no-interleave": Fault("INCONCLUSIVE", reason="3 of 3 attempts lost the race"),
        "M0-W-1422/stops": Fault("BLOCKED", reason="M0-W-1824 failed: no text to build a stop string from"),
        "M0-W-1032/applies": Fault("ERROR", reason="the harness's own request broke its schema"),
    }


def broken_character(rng: random.Random) -> Fault:
    pieces = words(40)
    pieces[17] = "\ufffd"
    return Fault(
        "FAIL",
        "replacement-character",
        "a character of the probe's script came out as U+FFFD",
        "every token event is well-formed UTF-8 without U+FFFD",
        'event 18: "t": "\ufffd" where the script says "é"',
        recording("test_utf8.py::test_split", [execute(pieces, steady(40, 0.011, rng))]),
        place("x1", 18, 214.2, 745),
        [
            '  17  event: token   {"t":" caf","i":16}',
            '> 18  event: token   {"t":"\ufffd","i":17}',
            '  19  event: token   {"t":" a","i":18}',
        ],
    )


def replayed_stream() -> Recording:
    polls = [
        answer(200, {"status": "healthy"}, exchange=f"x{n + 2}", label="poll", path="/health", t0=0.1 * n)
        for n in range(12)
    ]
    times = [1.21, *[1.21 + 0.00004 * n for n in range(1, 62)]]
    return recording("test_stream.py::test_incremental", [execute(words(60), times), *polls])


def stalled_stream(rng: random.Random) -> Fault:
    times = [at + (0.9 if index > 30 else 0.0) for index, at in enumerate(steady(50, 0.008, rng))]
    return Fault(
        "FAIL",
        "stalled-stream",
        "the stream stood still in the middle",
        "no silence above 500 ms",
        "908 ms before event 31",
        recording("test_stream.py::test_order", [execute(words(50), times)]),
        place("x1", 31, 1160.0, 1300),
    )


def hostile_payload(rng: random.Random) -> Fault:
    return Fault(
        "FAIL",
        "hostile",
        f"payload is not what the schema says: {HOSTILE}",
        f"a string {HOSTILE}",
        HOSTILE,
        recording(
            "test_payloads.py::test_shapes", [execute(["ok", HOSTILE, "ok"], steady(3, 0.01, rng), label=HOSTILE)]
        ),
        place("x1", 2, 31.0, 190),
        ["  1  event: token", f"> 2  {HOSTILE}", "  3  event: token"],
    )


def deaf_process() -> Fault:
    lines = [*START_UP, (2.9, '{"event":"error","message":"signal ignored"}')]
    worker = process(lines, code=-9, exited=7.2, signals=[("SIGTERM", 2.1), ("SIGKILL", 7.1)])
    return Fault(
        "FAIL",
        "sigterm-ignored",
        "SIGTERM did not end an idle worker",
        "exit code 0 within 5 s",
        "still running after 5 s; killed",
        recording("test_shutdown.py::test_sigterm", [worker]),
        log_place("worker", 9, 2100.0),
    )


class Folder:
    """Where recordings are stored, and which were."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stored: dict[str, str] = {}

    def store(self, item: Recording) -> str:
        (self.path / "transcripts").mkdir(parents=True, exist_ok=True)
        (self.path / "transcripts" / f"{item.sha}.json").write_bytes(item.encode())
        self.stored[item.sha] = item.check
        return item.sha


def build(kind: Literal["bad", "good"], path: Path, seed: int = 7) -> Report:
    """Write recordings below `path` and return the sealed report."""
    rng = random.Random(seed)
    folder = Folder(path)
    samples = [folder.store(passing(n, rng)) for n in range(PASSING_RECORDINGS)]
    planted = faults(rng) if kind == "bad" else {}
    requirements = []
    for requirement in load_registry().requirements.values():
        clauses = []
        for n, item in enumerate(requirement.clauses):
            value = clause(item, samples[(requirement.line + n) % len(samples)])
            if fault := planted.get(item.id):
                plant(value, fault, folder.store(fault.parts) if fault.parts else None)
            clauses.append(value)
        status, reason = roll_up(clauses)
        requirements.append(
            {
                "id": requirement.id,
                "title": requirement.title,
                "line": requirement.line,
                "level": requirement.level.value,
                "scope": requirement.scope,
                "status": status,
                "reason": reason,
                "clauses": clauses,
            }
        )
    return seal(document(kind, requirements, folder.stored))


def passing(n: int, rng: random.Random) -> Recording:
    refused = answer(
        400,
        {"code": "INVALID_REQUEST", "errors": [{"field": "prompt"}]},
        exchange="x2",
        label="refused",
        path="/execute",
        t0=0.3,
        method="POST",
    )
    return recording(f"test_area_{n}.py::test_case[{n}]", [execute(words(30 + n), steady(30 + n, 0.004, rng)), refused])


def clause(item: Clause, sha: str) -> dict[str, Any]:
    status, reason = "PASS", None
    if item.status == "excluded":
        status, reason = "NA", item.reason
    elif item.status == "whitebox":
        status, reason = "NOT_TESTED", item.reason
    elif item.status == "disputed":
        status, reason = "INFO", item.reason
    elif item.observable == "gpu" or item.profile == "m0":
        status, reason = "NOT_TESTED", "needs an NVIDIA device"
    judged = status in ("PASS", "INFO")
    return {
        "id": item.id,
        "level": item.level.value,
        "text": item.text,
        "status": status,
        "reason": reason,
        "observable": item.observable.value,
        "disposition": item.status.value,
        "profile": item.profile,
        "evidence": {
            "exchanges": 3 if judged else 0,
            "events": 120 if judged else 0,
            "findings": 3 if judged else 0,
            "sha": [sha] if judged else [],
        },
        "findings": [],
    }


def plant(target: dict[str, Any], fault: Fault, sha: str | None) -> None:
    target.update(status=fault.status, reason=fault.reason or fault.message)
    target["evidence"]["sha"] = [sha] if sha else []
    if not fault.message:
        return
    body = '{"job_id":"j-1","prompt":"tell me","max_tokens":40,"temperature":0}'
    target["findings"] = [
        {
            "key": fault.key,
            "status": fault.status,
            "message": f"{fault.parts.check}: {fault.message}" if fault.parts else fault.message,
            "expected": fault.expected or None,
            "actual": fault.actual or None,
            "at": fault.at,
            "lines": fault.lines,
            "transcript": sha,
            "curl": f"curl -N -H 'content-type: application/json' -d '{body}' http://127.0.0.1:41233/execute",
            "replay": f"m0-conformance replay transcripts/{sha}.json --worker-url http://127.0.0.1:41233",
            "caused_by": fault.caused_by,
        }
    ]


ORDER = ["FAIL", "ERROR", "INCONCLUSIVE", "BLOCKED", "NOT_TESTED", "WARN", "PASS", "NA", "INFO"]


def roll_up(clauses: list[dict[str, Any]]) -> tuple[str, str | None]:
    status = min((c["status"] for c in clauses), key=ORDER.index)
    return status, next((c["reason"] for c in clauses if c["status"] == status), None)


def document(kind: str, requirements: list[dict[str, Any]], stored: dict[str, str]) -> Report:
    registry = load_registry()
    clauses = [c for r in requirements for c in r["clauses"]]
    judged = [c for c in clauses if c["profile"] in JUDGED and c["disposition"] in ("active", "disputed")]
    by_level = {
        level: Counter(c["status"] for c in judged if c["level"] == level) for level in ("MUST", "SHOULD", "MAY")
    }
    verdict = "NON_CONFORMANT" if by_level["MUST"]["FAIL"] else "CONFORMANT"
    missing = len(registry.missing_in("m0-process"))
    return {
        "schema_version": 1,
        "suite": {
            "name": "m0-conformance",
            "version": "0.1.0",
            "registry_sha": registry.digest,
            "testset_sha": "b2" * 32,
            "selftest": {
                "killed": 83,
                "defects": 84,
                "benign_flagged": 0,
                "benign": 27,
                "conditional_caught": 8,
                "conditional_drawn": 9,
                "conditional_catalogue": 4000,
            },
        },
        "spec": {
            "repository": registry.spec.repository,
            "path": registry.spec.path,
            "commit": registry.spec.commit,
            "sha256": registry.spec.sha256,
        },
        "target": {
            "kind": "command",
            "url": None,
            "command": "python -m m0_worker",
            "device": "cpu",
            "device_note": "a CPU holds no VRAM: residency and VRAM clauses are not tested",
            "identity": {
                "status": "healthy",
                "model": "script",
                "resident": False,
                "quant_kind": "Q4_K_M",
                "vocab_size": 512,
                "context_length": 4096,
                "note": HOSTILE if kind == "bad" else "",
            },
        },
        "run": {
            "started": "2026-11-20T10:00:00Z",
            "duration_s": 41.7,
            "seed": 7,
            "options": {"disputes": "strict", "requirement": None, "timing_scale": 1.0},
            "timing": {"floor_us": 212.0, "scale": 1.0},
        },
        "profile": "m0-process",
        "verdict": verdict,
        "verdict_line": f"{verdict} in m0-process; m0 needs an NVIDIA device: {missing} requirements not tested",
        "next_profile": {"name": "m0", "lacks": "an NVIDIA device", "requirements": missing},
        "summary": {
            "by_level": {level: dict(counts) for level, counts in by_level.items()},
            "by_status": dict(Counter(r["status"] for r in requirements)),
            "by_disposition": dict(Counter(c["disposition"] for c in clauses)),
        },
        "requirements": requirements,
        "readings": [
            {
                "name": reading.name,
                "observed": (reading.default or "queued") if n % 3 == 0 else None,
                "default": reading.default,
                "clauses": [c.id for c in registry.clauses_of_reading(reading.name)],
                "note": reading.reading,
            }
            for n, reading in enumerate(registry.readings.values())
        ],
        "kill_matrix": kill_matrix([c["id"] for c in judged]),
        "recordings": stored,
        "digest": "",
    }


def kill_matrix(names: list[str]) -> dict[str, Any]:
    missed = 40
    defects = [
        {
            "id": f"defect-{n:02d}",
            "what": f"seeded fault number {n}: what the worker is made to do wrong",
            "source": f"known defect {n % 51 + 1}",
            "kills": [names[n * 2]],
            "collateral": [names[(n * 7) % len(names)]] if n % 5 == 0 else [],
            "failed": [names[3]] if n == missed else [names[n * 2]],
            "caught": n != missed,
        }
        for n in range(84)
    ]
    oddities = [
        {"id": f"oddity-{n:02d}", "what": f"unusual but conforming behaviour {n}", "failed": [], "flagged": False}
        for n in range(27)
    ]
    drawn = [
        {
            "id": f"defect-{n:02d}@turn=later",
            "what": f"seeded fault number {n}. Only where this holds: it is the worker's third job or a later one.",
            "kills": [names[n * 2]],
            "failed": [] if n in {4, 9} else [names[n * 2]],
            "acted": n != 4,
            "caught": n not in {4, 9},
            "invisible": "nobody outside sees which buffer was used" if n == 9 else None,
        }
        for n in range(10)
    ]
    return {
        "baseline": "green",
        "duration_s": 212.0,
        "defects": defects,
        "conditional": {"catalogue": 4000, "left_out": 300, "seed": 7, "drawn": drawn},
        "record": {"caught": [row["id"] for row in drawn if row["caught"]], "missed": ["defect-04@turn=later"]},
        "oddities": oddities,
        "unfalsified": [{"clause": names[3], "reason": "no wire defect can fake a second model file"}],
    }
