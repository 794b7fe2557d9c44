"""Recordings on disk: JSON lines as the worker writes them (ORCH_LOG_FILE), read strictly, written for llama.cpp too.

A line is one checkpoint of one input token. All that a line says about its values is checked when it is read: the
figures against the vector in the side file, its CRC, the length of the vector. A file that ends in the middle of a line
or of a vector is refused, because what is missing cannot be compared.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from m0_worker.checkpoint_lines import SCHEMA, Figures, described

from m0_parity.compare import IncomparableError
from m0_parity.names import INTEGERS, LOGITS, Place, from_worker
from m0_parity.recording import Recording, Request, Rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    import numpy.typing as npt

_WORDS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_BEFORE_ROPE: Final = {"Qpre": "Qcur", "Kpre": "Kcur"}


@dataclass(slots=True)
class _Column:
    positions: list[int] = field(default_factory=list)
    rows: list[npt.NDArray[np.float32]] = field(default_factory=list)
    features: int = 0


def read(path: Path, *, team: str | None = None, run: str | None = None) -> Recording:
    """Read a recording; ``team`` and ``run`` choose where a file holds several (default: the last run).

    Raises:
        IncomparableError: truncated, not a recording, contradicting itself, or nothing of that team or run in it.
        OSError: the file cannot be read.
    """
    lines = [line for line in _lines(path) if team is None or line.get("team") == team]
    if not lines:
        who = f" of team {team!r}" if team else ""
        raise IncomparableError(f"{path.name}: no line{who}; record again, and let the engine end before you compare")
    chosen = run if run is not None else lines[-1].get("run_id")
    lines = [line for line in lines if line.get("run_id") == chosen]
    if not lines:
        raise IncomparableError(f"{path.name}: no run {run!r}")
    first = lines[0]
    recording = Recording(
        {
            "engine": first.get("team", "?"),
            "model": first.get("model", ""),
            **{key: first[key] for key in ("model_sha256", "twin_of", "architecture", "settings") if key in first},
        },
        run=str(chosen),
    )
    requests: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        requests.setdefault(str(line.get("request_id", "")), []).append(line)
    for name, own in requests.items():
        recording.requests[name] = _request(path, name, own)
    if len(recording.requests) > 0 and not any(r.rows for r in recording):
        raise IncomparableError(f"{path.name}: no known checkpoint in it")
    return recording


def _request(path: Path, name: str, lines: list[dict[str, Any]]) -> Request:
    first = lines[0]
    if (promised := first.get("lines", len(lines))) != len(lines):
        raise IncomparableError(
            f"{path.name} is not whole: request {name!r} has {len(lines)} lines where {promised} were written; "
            "record it again"
        )
    # A worker says with its first line what it was given, and with each later one what it was fed.
    request = Request(name, [], int(first.get("prompt", len(first.get("token_ids", [])))))
    columns: dict[Place, _Column] = {}
    for line in lines:
        try:
            request.tokens += [int(token) for token in line.get("token_ids", [])]
            place = _place(line)
            if place is not None:
                column = columns.setdefault(place, _Column())
                column.positions.append(int(line.get("position", line["token_idx"])))
                column.rows.append(_values(path, line))
                column.features = int(line.get("n", len(column.rows[-1])))
        except IncomparableError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise IncomparableError(f"{path.name}: a line of {line['checkpoint']} cannot be read: {what}") from error
    request.rows = {place: _rows(path, place, column) for place, column in columns.items()}
    return request


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    text = path.read_bytes()
    if text and not text.endswith(b"\n"):
        raise IncomparableError(f"{path.name} is truncated: its last line has no end; record it again")
    for number, raw in enumerate(text.splitlines(), start=1):
        try:
            line = json.loads(raw)
        except ValueError as error:
            raise IncomparableError(f"{path.name}, line {number}: not JSON ({error})") from error
        if not isinstance(line, dict) or "checkpoint" not in line or "token_idx" not in line or "values" not in line:
            raise IncomparableError(f"{path.name}, line {number}: no checkpoint, token_idx and values in it")
        if line.get("schema", SCHEMA) != SCHEMA:
            raise IncomparableError(f"{path.name}, line {number}: schema {line['schema']}, this reads {SCHEMA}")
        yield line


def _place(line: dict[str, Any]) -> Place | None:
    name, dash, suffix = str(line["checkpoint"]).rpartition("-")
    layered = bool(dash) and suffix.isdigit()
    layer = int(line.get("layer", suffix if layered else -1))
    name = name if layered else str(line["checkpoint"])
    name = LOGITS if name == "logits" else name
    return from_worker(name, layer, int(line.get("occurrence", 1)))


def _values(path: Path, line: dict[str, Any]) -> npt.NDArray[np.float32]:
    shown = np.array([_WORDS[v] if isinstance(v, str) else v for v in line["values"]], dtype=np.float32)
    where = line.get("vector")
    if where is None:
        return shown
    side = path.with_name(where["file"])
    dtype = np.int32 if line.get("dtype") == "i32" else np.float32
    try:
        with side.open("rb") as file:
            file.seek(where["offset"])
            raw = file.read(where["bytes"])
    except OSError as error:
        raise IncomparableError(f"{side.name}: {error.strerror}; it holds the vectors of {path.name}") from error
    if len(raw) != where["bytes"]:
        raise IncomparableError(
            f"{side.name} is truncated: the vector at {where['offset']} has {len(raw)} of {where['bytes']} bytes; "
            f"copy it again beside {path.name}"
        )
    if f"{zlib.crc32(raw):08x}" != line["crc32"]:
        raise IncomparableError(
            f"{side.name}: {line['checkpoint']} at position {line['position']} has changed since it was recorded (CRC)"
        )
    vector = np.frombuffer(raw, dtype=dtype).astype(np.float32)
    norm = float(np.sqrt(np.square(vector.astype(np.float64)).sum()))
    if len(vector) != line["n"] or not (norm == line["l2"] or abs(norm - float(line["l2"])) <= 1e-6 * max(norm, 1e-30)):
        raise IncomparableError(f"{side.name}: {line['checkpoint']} does not have the figures its line gives")
    return vector


def _rows(path: Path, place: Place, column: _Column) -> Rows:
    widths = {len(row) for row in column.rows}
    if len(widths) != 1:
        raise IncomparableError(f"{path.name}: {place[1]} of layer {place[0]} has rows of {sorted(widths)} values")
    positions = np.array(column.positions, dtype=np.int64)
    order = np.argsort(positions, kind="stable")
    if len(set(column.positions)) != len(positions):
        raise IncomparableError(f"{path.name}: {place[1]} of layer {place[0]} was recorded twice at one position")
    return Rows(positions[order], np.stack(column.rows)[order], column.features)


def write(
    recording: Recording,
    path: Path,
    *,
    values: int = 10,
    vectors: bool = False,
    positions: Collection[int] | None = None,
) -> Path:
    """Write a recording in the worker's format, one request after the other, and return the path.

    ``values`` leading values a line, whole vectors in ``<path>.vectors`` if asked for, only ``positions`` if given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    side = path.with_name(path.name + ".vectors")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    provenance = recording.provenance
    extra: dict[str, Any] = {
        k: provenance[k] for k in ("model_sha256", "twin_of", "architecture", "settings") if k in provenance
    }
    with path.open("w", encoding="ascii") as file, side.open("wb") if vectors else nullcontext() as blob:
        for request in recording:
            kept = {place: _chosen(request.rows[place], positions) for place in request.places()}
            head: dict[str, Any] = {
                "token_ids": request.tokens,
                "prompt": request.prompt,
                "lines": sum(len(rows.positions) for rows in kept.values()),
                **extra,
            }
            for (layer, name), rows in kept.items():
                shown = _BEFORE_ROPE.get(name, name)
                rotated = (layer, {"Qcur": "Qpre", "Kcur": "Kpre"}.get(name, "")) in request.rows
                block = np.ascontiguousarray(rows.values.astype(np.int32) if name in INTEGERS else rows.values)
                figures = Figures.of(block)
                for r, position in enumerate(rows.positions.tolist()):
                    line: dict[str, Any] = {
                        "ts": stamp,
                        "team": provenance.get("engine", "?"),
                        "checkpoint": shown if layer < 0 else f"{shown}-{layer}",
                        "token_idx": position,
                        **described(name, block[r], figures, r, values),
                        "schema": SCHEMA,
                        "run_id": recording.run,
                        "model": provenance.get("model", ""),
                        "request_id": request.id,
                        "position": position,
                        "layer": layer,
                        "occurrence": 1 if rotated or name not in {"Qcur", "Kcur", "Qpre", "Kpre"} else 0,
                        "token_ids": [],
                        **head,
                    }
                    if blob is not None:
                        line["vector"] = {"file": side.name, "offset": blob.tell(), "bytes": block[r].nbytes}
                        blob.write(block[r].data)
                    head = {}
                    file.write(json.dumps(line, separators=(",", ":")) + "\n")
    return path


def _chosen(rows: Rows, positions: Collection[int] | None) -> Rows:
    if positions is None:
        return rows
    wanted = np.isin(rows.positions, list(positions))
    return Rows(rows.positions[wanted], rows.values[wanted], rows.features)
