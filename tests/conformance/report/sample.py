"""A report such as the suite writes, over the true 98 requirement IDs, with faults of every kind planted in it.

`bad` is a worker with many faults, `good` one without; both were judged in m0-process on a CPU. The recordings are real
`Recording`s, stored under their digests, so that every view reads them the way it reads a run's.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from conformance.report.document import Report, seal
from conformance.wire.transcript import Recording
from streams import HOSTILE, START_UP, answer, event, execute, process, recording, steady, words

NEEDS_GPU = "needs an NVIDIA device: this run had a CPU"


@dataclass
class Fault:
    """A planted deviation."""

    requirement: str
    status: str
    key: str
    message: str
    expected: str = ""
    actual: str = ""
    parts: Recording | None = None
    at: dict[str, Any] | None = None
    lines: list[str] = field(default_factory=list)
    reason: str | None = None
    caused_by: str | None = None


@cache
def catalogue() -> list[tuple[str, int, str, str, str, str]]:
    """(id, line, level, scope, how it shows, title) of the 98 requirements in the spec's order."""
    rows = [row.split("\t") for row in Path(__file__).with_name("catalogue.tsv").read_text(encoding="utf-8").splitlines()]
    return [(name, int(line), level, scope, codes, title) for name, line, level, scope, codes, title in rows]


def faults(rng: random.Random) -> list[Fault]:
    """What is wrong with the bad worker."""
    cut = words(40)
    cut[17] = "\ufffd"
    broken = execute(cut, steady(40, 0.011, rng))
    wait = [1.21, *[1.21 + 0.00004 * n for n in range(1, 62)]]
    replayed = recording("test_stream.py::test_incremental", [
        execute(words(60), wait),
        *[answer(200, {"status": "healthy"}, exchange=f"x{n + 2}", label="poll", path="/health", t0=0.1 * n) for n in range(12)],
    ])  # fmt: skip
    stall = steady(50, 0.008, rng)
    stalled = [at + (0.9 if index > 30 else 0.0) for index, at in enumerate(stall)]
    late = recording("test_cancel.py::test_running", [
        execute(words(90), steady(90, 0.009, rng), last=event("error", {"code": "CANCELLED", "message": "job was cancelled"})),
        answer(202, {}, exchange="x2", label="cancel", path="/cancel", t0=0.2, method="POST"),
    ])  # fmt: skip
    hostile = recording("test_payloads.py::test_shapes", [
        execute(["ok", HOSTILE, "ok"], steady(3, 0.01, rng), label=HOSTILE[:31]),
    ])  # fmt: skip
    deaf = recording("test_shutdown.py::test_sigterm", [
        process([*START_UP, (2.9, '{"event":"error","message":"signal ignored"}')], code=-9, exited=7.2, signals=[("SIGTERM", 2.1), ("SIGKILL", 7.1)]),
    ])  # fmt: skip
    quiet = recording("test_logs.py::test_progress", [process(START_UP[:4] + START_UP[-1:])])
    return [
        Fault("M0-W-1824", "FAIL", "replacement-character", "a character of the probe's script came out as U+FFFD",
              "every token event is well-formed UTF-8 without U+FFFD", 'event 18: "t": "\ufffd" where the script says "é"',
              recording("test_utf8.py::test_split", [broken]), {"exchange": "x1", "event": 18, "byte": 745, "t_ms": 214.2},
              ['  17  event: token   {"t":" caf","i":16}', '> 18  event: token   {"t":"\ufffd","i":17}', '  19  event: token   {"t":" a","i":18}']),
        Fault("M0-W-1310", "FAIL", "replayed-stream", "all tokens arrived together at the end of the generation",
              "the first token arrives before half of the stream's time has passed", "60 tokens within 2.4 ms, after 1.21 s of silence",
              replayed, {"exchange": "x1", "event": 1, "byte": None, "t_ms": 1210.0}),
        Fault("M0-W-1311", "FAIL", "stalled-stream", "the stream stood still in the middle", "no silence above 500 ms", "908 ms before event 31",
              recording("test_stream.py::test_order", [execute(words(50), stalled)]), {"exchange": "x1", "event": 31, "byte": 1300, "t_ms": 1160.0}),
        Fault("M0-W-1330", "FAIL", "late-terminal", "decoding went on after /cancel was accepted", "terminal event within 100 ms of the 202",
              "error CANCELLED 611 ms after the 202, with 68 token events in between", late, {"exchange": "x1", "event": 91, "byte": None, "t_ms": 821.0}),
        Fault("M0-SYS-6.3.5", "FAIL", "late-terminal", "cancel was not handled promptly", "terminal event within 100 ms", "611 ms", late,
              {"exchange": "x2", "event": None, "byte": None, "t_ms": 2.0}, caused_by="M0-W-1330"),
        Fault("M0-W-1312", "FAIL", "hostile", f"payload is not what the schema says: {HOSTILE}", f"a string {HOSTILE}", f"{HOSTILE}",
              hostile, {"exchange": "x1", "event": 2, "byte": 190, "t_ms": 31.0}, ["  1  event: token", f"> 2  {HOSTILE}", "  3  event: token"]),
        Fault("M0-W-1340", "FAIL", "sigterm-ignored", "SIGTERM did not end an idle worker", "exit code 0 within 5 s", "still running after 5 s; killed",
              deaf, {"exchange": None, "event": 9, "byte": None, "t_ms": 2100.0, "launch": "worker"}),
        Fault("M0-W-1621", "WARN", "progress-missing", "load progress lacks 50, 75 and 100", "percent 0, 25, 50, 75, 100", "percent 0, 25", quiet,
              {"exchange": None, "event": 3, "byte": None, "t_ms": 300.0, "launch": "worker"}),
        Fault("M0-W-1604", "WARN", "slow-health", "/health was slow while a job ran", "p99 below 10 ms", "p99 14 ms [12, 19] at 95 %, n = 60", replayed,
              {"exchange": "x4", "event": None, "byte": None, "t_ms": 2.0}),
        Fault("M0-W-1301", "INCONCLUSIVE", "race-lost", "the second job never overlapped the first", reason="3 of 3 attempts lost the race"),
        Fault("M0-W-1422", "BLOCKED", "blocked", "", reason="M0-W-1824 failed: no text to build a stop string from"),
        Fault("M0-W-1032", "ERROR", "harness", "", reason="the harness's own request broke its schema"),
    ]  # fmt: skip


def build(kind: Literal["bad", "good"], folder: Path, seed: int = 7) -> Report:
    """Write recordings below `folder` and return the sealed report."""
    rng = random.Random(seed)
    stored: dict[str, str] = {}

    def store(item: Recording) -> str:
        (folder / "transcripts").mkdir(parents=True, exist_ok=True)
        (folder / "transcripts" / f"{item.sha}.json").write_bytes(item.encode())
        stored[item.sha] = item.check
        return item.sha

    samples = [
        store(recording(f"test_area_{n}.py::test_case[{n}]", [
            execute(words(30 + n), steady(30 + n, 0.004, rng)),
            answer(400, {"code": "INVALID_REQUEST", "errors": [{"field": "prompt"}]}, exchange="x2", label="refused", path="/execute", t0=0.3, method="POST"),
        ])) for n in range(60)
    ]  # fmt: skip
    planted = {fault.requirement: fault for fault in (faults(rng) if kind == "bad" else [])}
    requirements = []
    for name, line, level, scope, codes, title in catalogue():
        count = {"M0-W-1300": 12, "M0-W-1320": 9, "M0-W-1312": 8, "M0-W-1311": 5, "M0-W-1330": 7, "M0-W-1100": 8, "M0-W-1900": 6}.get(name, 2)
        clauses = [clause(name, n, level, scope, codes, title, samples[(line + n) % len(samples)]) for n in range(count)]
        if fault := planted.get(name):
            plant(clauses[0], fault, store(fault.parts) if fault.parts else None)
        requirements.append(roll_up(name, line, level, scope, title, clauses))
    return seal(document(kind, requirements, stored))


def clause(name: str, n: int, level: str, scope: str, codes: str, title: str, sha: str) -> dict[str, Any]:
    kind = "whitebox" if codes in ("W", "DW", "WG", "WL") else "document" if codes == "D" else (
        "gpu" if codes == "G" or (n and "G" in codes) else "process" if codes[0] == "P" else "log" if codes[0] == "L" else "timing" if codes[0] == "T" else "wire"
    )  # fmt: skip
    disposition = "deferred" if scope == "deferred" else "excluded" if scope == "dead" else "whitebox" if kind in ("whitebox", "document") else "active"
    if name in ("M0-W-1340", "M0-W-1422") and n == 1:
        disposition = "disputed"
    profile = "m1-preview" if disposition == "deferred" else {"wire": "m0-wire", "timing": "m0-wire", "process": "m0-process", "log": "m0-process"}.get(kind, "m0")
    status, reason = "PASS", None
    if disposition == "excluded":
        status, reason = "NA", "dead: the concept was removed from the project"
    elif disposition == "whitebox":
        status, reason = "NOT_TESTED", f"only the worker's own {'documents' if kind == 'document' else 'source or build'} can show it"
    elif profile == "m0":
        status, reason = "NOT_TESTED", NEEDS_GPU
    judged = status == "PASS"
    return {
        "id": f"{name}/{'abcdefghijklmn'[n]}-{title.split()[0].lower().strip('()/')[:12] or 'x'}".replace("++", "").replace("/cuda", "-cuda"),
        "level": level, "text": f"{title}: obligation {n + 1}, in the suite's own words, with the limit it must keep",
        "status": status, "reason": reason, "observable": kind, "disposition": disposition, "profile": profile,
        "evidence": {"exchanges": 3 if judged else 0, "events": 120 if judged else 0, "findings": 3 if judged else 0, "sha": [sha] if judged else []},
        "findings": [],
    }  # fmt: skip


def plant(target: dict[str, Any], fault: Fault, sha: str | None) -> None:
    target.update(status=fault.status, reason=fault.reason or fault.message, disposition=target["disposition"])
    target["evidence"]["sha"] = [sha] if sha else []
    if fault.message:
        target["findings"] = [{
            "key": fault.key, "status": fault.status, "message": fault.message, "expected": fault.expected or None, "actual": fault.actual or None,
            "at": fault.at, "lines": fault.lines, "transcript": sha,
            "curl": "curl -N -H 'content-type: application/json' -d '{\"job_id\":\"j-1\",\"prompt\":\"tell me\",\"max_tokens\":40,\"temperature\":0}' http://127.0.0.1:41233/execute",
            "replay": f"m0-conformance replay transcripts/{sha}.json --worker-url http://127.0.0.1:41233", "caused_by": fault.caused_by,
        }]  # fmt: skip


ORDER = ["FAIL", "ERROR", "INCONCLUSIVE", "BLOCKED", "NOT_TESTED", "WARN", "PASS", "NA", "INFO"]


def roll_up(name: str, line: int, level: str, scope: str, title: str, clauses: list[dict[str, Any]]) -> dict[str, Any]:
    status = min((c["status"] for c in clauses), key=ORDER.index)
    reason = next((c["reason"] for c in clauses if c["status"] == status), None)
    return {"id": name, "title": title, "line": line, "level": level, "scope": {"deferred": "M1"}.get(scope, "M0"), "status": status, "reason": reason, "clauses": clauses}


def document(kind: str, requirements: list[dict[str, Any]], stored: dict[str, str]) -> Report:
    clauses = [c for r in requirements for c in r["clauses"]]
    judged = [c for c in clauses if c["profile"] in ("m0-wire", "m0-process") and c["disposition"] == "active"]
    by_level = {level: dict(Counter(c["status"] for c in judged if c["level"] == level)) for level in ("MUST", "SHOULD", "MAY")}
    must = by_level["MUST"]
    gpu = len({r["id"] for r in requirements for c in r["clauses"] if c["profile"] == "m0" and c["disposition"] == "active"})
    verdict = "NON_CONFORMANT" if must.get("FAIL") else "CONFORMANT"
    bad = ", ".join(f"{n} {s.lower()}" for s, n in must.items() if s != "PASS")
    return {
        "schema_version": 1,
        "suite": {"name": "m0-conformance", "version": "0.1.0", "registry_sha": "a1" * 32, "testset_sha": "b2" * 32,
                  "selftest": {"killed": 83, "defects": 84, "benign_flagged": 0, "benign": 27}},
        "spec": {"repository": "veighnsche/llama-orch", "path": "bin/.specs/01_M0_worker_orcd.md", "commit": "6ca910077f40c9d43a2ec6a5e8b2749e32965c56", "sha256": "34" * 32},
        "target": {"kind": "command", "url": None, "command": "python -m worker", "device": "cpu",
                   "device_note": "a CPU holds no VRAM: residency and VRAM clauses are not tested",
                   "identity": {"status": "healthy", "model": "script", "uptime_seconds": 3, "resident": False, "quant_kind": "Q4_K_M",
                                "tokenizer_kind": "gguf-bpe", "vocab_size": 512, "context_length": 4096, "note": HOSTILE if kind == "bad" else ""}},
        "run": {"started": "2026-11-20T10:00:00Z", "duration_s": 41.7, "seed": 7, "options": {"disputes": "strict", "requirement": None, "timing_scale": 1.0},
                "timing": {"floor_us": 212.0, "scale": 1.0}},
        "profile": "m0-process", "verdict": verdict,
        "verdict_line": f"M0 profile m0-process: {verdict} — MUST {must['PASS']}/{sum(must.values())}" + (f" ({bad})" if bad else "") + f"; m0 needs an NVIDIA device: {gpu} requirements not tested",
        "next_profile": {"name": "m0", "lacks": "an NVIDIA device", "requirements": gpu},
        "summary": {"by_level": by_level, "by_status": dict(Counter(r["status"] for r in requirements)),
                    "by_disposition": dict(Counter(c["disposition"] for c in clauses))},
        "requirements": requirements,
        "readings": [
            {"name": "E-2ND", "observed": "held", "default": None, "clauses": [clauses[80]["id"]], "note": "the second /execute waited until the first had ended"},
            {"name": "E-CHARS", "observed": "code points", "default": "code points", "clauses": [clauses[90]["id"]], "note": "32,768 astral characters were accepted"},
            {"name": "E-SHUT", "observed": "30 s", "default": "5 s", "clauses": [clauses[91]["id"]], "note": "idle SIGTERM took 11 s"},
            {"name": "E-SEED1", "observed": None, "default": "seed in started or end", "clauses": [clauses[30]["id"]], "note": None},
        ],
        "kill_matrix": kill_matrix(judged),
        "recordings": stored,
        "digest": "",
    }  # fmt: skip


def kill_matrix(judged: list[dict[str, Any]]) -> dict[str, Any]:
    names = [c["id"] for c in judged]
    defects = [
        {"id": f"defect-{n:02d}", "what": f"seeded fault number {n}: what the worker is made to do wrong", "source": f"known defect {n % 51 + 1}",
         "kills": [names[n % len(names)]], "collateral": [names[(n * 7) % len(names)]] if n % 5 == 0 else [],
         "failed": [] if n == 40 else [names[n % len(names)]], "caught": n != 40}
        for n in range(84)
    ]  # fmt: skip
    oddities = [{"id": f"oddity-{n:02d}", "what": f"unusual but conforming behaviour {n}", "failed": [], "flagged": False} for n in range(27)]
    return {"baseline": "green", "duration_s": 212.0, "defects": defects, "oddities": oddities, "unfalsified": [{"clause": names[3], "reason": "no wire defect can fake a second model file"}]}
