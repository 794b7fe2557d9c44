"""Recordings of worker processes for the tests of their judges, and small ways to spoil them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any, TypeAlias

from m0_conformance.judging.finding import Status
from m0_conformance.judging.judge import INVARIANTS, JUDGES, load_all
from m0_conformance.recording.transcript import Chunk, Exchange, Launch, LogLine, Recording

Spoil: TypeAlias = Callable[[Recording], None]
load_all()
WORKER_ID = "7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90"
MODEL = "/models/probe.gguf"
CONTEXT = {"worker_id": WORKER_ID, "model_ref": MODEL, "gpu_device": 0}


def log(name: str, at: float, **fields: Any) -> LogLine:
    """A log event on stdout with its context."""
    return LogLine("stdout", at, json.dumps({"event": name, **CONTEXT, **fields}))


def launched(label: str, **values: Any) -> Launch:
    """A launch that became ready after half a second on port 4000, unless told otherwise."""
    values = {"port": 4000, "ready_at": 0.5, "listening_at": 0.5} | values
    return Launch(label, ["worker"], **values)


def refused(label: str, text: str, code: int = 1) -> Launch:
    """A launch that ended by itself after this line on stderr and an error event."""
    lines = [log("startup", 0.1), log("error", 0.2, message=text), LogLine("stderr", 0.2, text)]
    return Launch(label, ["worker"], lines=lines, exit_code=code, exited_at=0.3)


def health(label: str, at: float = 1.0, status: int = 200, port: int = 4000, **body: Any) -> Exchange:
    """GET /health answered after a millisecond."""
    return Exchange(
        f"{label} {at}",
        label,
        "GET",
        "/health",
        host=f"127.0.0.1:{port}",
        t0=at,
        head_at=0.001,
        status=status,
        headers=[("content-type", "application/json")],
        chunks=[Chunk(0.001, json.dumps({"status": "healthy", **body}).encode())],
        end="eof",
    )


def error(code: str) -> tuple[str, dict[str, Any]]:
    """An error event."""
    return ("error", {"code": code, "message": "no", "retriable": False})


def job(
    label: str,
    pieces: str | list[str],
    *,
    at: float = 1.0,
    port: int = 4000,
    step: float = 0.01,
    terminal: tuple[str, dict[str, Any]] | None = ("end", {}),
    max_tokens: int | None = None,
) -> Exchange:
    """A stream that says these pieces, one every `step` seconds; `terminal` None cuts it."""
    events: list[tuple[str, dict[str, Any]]] = [("started", {"job_id": label, "model": "m"})]
    events += [("token", {"t": piece, "i": i}) for i, piece in enumerate(pieces)]
    events += [] if terminal is None else [terminal]
    chunks = [
        Chunk((number + 1) * step, f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        for number, (name, data) in enumerate(events)
    ]
    request = {"job_id": label, "prompt": "*", "max_tokens": len(pieces) if max_tokens is None else max_tokens}
    return Exchange(
        f"{label} {at}",
        label,
        "POST",
        "/execute",
        request_body=json.dumps(request).encode(),
        host=f"127.0.0.1:{port}",
        t0=at,
        head_at=0.001,
        status=200,
        headers=[("content-type", "text/event-stream")],
        chunks=chunks,
        closed_at=chunks[-1].at,
        end="eof" if terminal is not None else "reset",
    )


def answered(label: str, status: int | None, at: float = 1.0) -> Exchange:
    """A POST /execute that was refused with a status, or (None) by not accepting the connection."""
    return Exchange(
        f"{label} {at}", label, "POST", "/execute", t0=at, status=status, end="eof" if status else "refused"
    )


# ---- spoiling -----------------------------------------------------------------------------------------------------


def fact(name: str, value: Any) -> Spoil:
    """Change a fact."""

    def spoil(recording: Recording) -> None:
        recording.facts[name] = value

    return spoil


def changed(label: str, **values: Any) -> Spoil:
    """Change fields of a launch."""

    def spoil(recording: Recording) -> None:
        launch = recording.launch(label)
        assert launch is not None
        for name, value in values.items():
            setattr(launch, name, value)

    return spoil


def instead(*exchanges: Exchange) -> Spoil:
    """Replace the exchanges that have one of these labels."""

    def spoil(recording: Recording) -> None:
        labels = {exchange.label for exchange in exchanges}
        kept = [exchange for exchange in recording.exchanges if exchange.label not in labels]
        recording.exchanges = [*kept, *exchanges]

    return spoil


def without(label: str, *events: str) -> Spoil:
    """Drop a launch's lines that hold one of these event names."""

    def spoil(recording: Recording) -> None:
        launch = recording.launch(label)
        assert launch is not None
        launch.lines = [line for line in launch.lines if not any(f'"event": "{name}"' in line.text for name in events)]

    return spoil


def lines(label: str, *new: LogLine) -> Spoil:
    """Replace a launch's lines."""
    return changed(label, lines=list(new))


def replaced(label: str, old: str, new: str) -> Spoil:
    """Replace a string in every line of a launch."""

    def spoil(recording: Recording) -> None:
        launch = recording.launch(label)
        assert launch is not None
        launch.lines = [LogLine(line.stream, line.at, line.text.replace(old, new)) for line in launch.lines]

    return spoil


# ---- judging ------------------------------------------------------------------------------------------------------


def statuses(recording: Recording, module: str) -> dict[str, set[Status]]:
    """What the judges of one module say: the statuses by clause."""
    found: dict[str, set[Status]] = {}
    for judge in (*JUDGES, *INVARIANTS):
        if not judge.name.startswith(f"{module}."):
            continue
        assert judge.scope == "recording", "these tests hand over whole recordings"
        found |= {clause: set() for clause in judge.clauses if clause not in found}
        for finding in judge.function(recording):
            found[finding.clause or judge.clauses[0]].add(finding.status)
    return found


def red(recording: Recording, module: str) -> set[str]:
    """Clauses that this module's judges find broken."""
    return {clause for clause, seen in statuses(recording, module).items() if Status.FAIL in seen}


def spoiled(recording: Recording, *spoils: Spoil) -> Recording:
    """A copy with these changes."""
    result = copy.deepcopy(recording)
    for spoil in spoils:
        spoil(result)
    return result
