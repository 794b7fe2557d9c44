"""What one check saw, exactly as it happened: the only thing a judge may read.

A `Recording` holds HTTP exchanges (byte for byte, with arrival times), worker processes (argument vector, output lines,
signals, exit code), facts the check noted and timing samples. It survives a JSON round trip unchanged and is named by
the SHA-256 of its canonical JSON, so a stored recording can be judged again years later and tampering shows.

Times are seconds. `Exchange.t0` and `Launch.t0` lie on the recording's own monotonic clock (0.0 = the check began; a
shared worker started earlier has a negative t0); every other time of an exchange or launch counts from that t0. All are
rounded to a microsecond when they are recorded, so that the round trip loses nothing.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
import json
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal, TypeAlias, cast

Json: TypeAlias = Any  # a JSON value: None, bool, int, float, str, list of Json, dict of str to Json
End: TypeAlias = Literal["eof", "reset", "client-closed", "timeout", "refused", "garbage", "open"]
Framing: TypeAlias = Literal["chunked", "length", "close", "none"]
Outcome: TypeAlias = Literal["completed", "not-exercised", "out-of-reach", "blocked", "harness-error"]


def seconds(value: float) -> float:
    """A time as recordings keep it: rounded to a microsecond."""
    return round(value, 6)


def _pack(data: bytes) -> Json:
    """Bytes as JSON: a string where they are UTF-8, else {"b64": …}."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(data).decode("ascii")}


def _unpack(value: Json) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    return base64.b64decode(value["b64"], validate=True)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Body bytes that arrived in one read, after chunked decoding."""

    at: float
    """Arrival, seconds since the exchange began."""
    data: bytes


@dataclass(slots=True)
class Exchange:
    """One HTTP request and what came back, exactly as the socket saw it.

    `end` says how it finished: "eof" the message was complete or the peer closed cleanly; "reset" the connection was
    reset
    or closed in the middle of a message; "client-closed" the check hung up on purpose; "timeout" the harness stopped
    waiting; "refused" nothing listened; "garbage" the answer was not HTTP; "open" the check ended while it was running.
    """

    id: str
    """Unique within its recording: "x1", "x2", … in the order the check started them."""
    label: str
    """What the check calls it: "first", "cancel", …; labels may repeat."""
    method: str
    path: str
    request_headers: list[tuple[str, str]] = field(default_factory=list)
    request_body: bytes = b""
    host: str = ""
    """host:port the request went to."""
    started_at: float = 0.0
    """Unix time of the start."""
    t0: float = 0.0
    """Start on the recording's clock."""
    sent_at: float | None = None
    """The whole request had been handed to the kernel."""
    head_at: float | None = None
    """Status line and headers were complete."""
    closed_at: float | None = None
    """End of the body, or of the connection."""
    status: int | None = None
    http_version: str = ""
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Response headers in order, with the case the peer used."""
    head: bytes = b""
    """Raw status line and headers, or what came in their place when `end` is "garbage"."""
    framing: Framing = "none"
    chunks: list[Chunk] = field(default_factory=list)
    end: End = "open"
    error: str = ""
    """Words for the unusual ends."""
    _asked: tuple[bytes, Json] | None = field(default=None, repr=False, compare=False)

    @property
    def body(self) -> bytes:
        """All body bytes."""
        return b"".join(chunk.data for chunk in self.chunks)

    def headers_named(self, name: str) -> list[str]:
        """Values of every response header of this name, case ignored."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """First response header of this name, or None."""
        return next(iter(self.headers_named(name)), None)

    @property
    def content_type(self) -> str:
        """Media type in lower case without parameters; "" when absent."""
        return (self.header("content-type") or "").split(";")[0].strip().lower()

    def time_of_byte(self, offset: int) -> float | None:
        """When the body byte at `offset` arrived, seconds since the exchange began; None beyond the end."""
        ends = list(accumulate(len(chunk.data) for chunk in self.chunks))
        index = bisect.bisect_right(ends, offset)
        return self.chunks[index].at if index < len(self.chunks) else None

    def request_json(self) -> Json:
        """The request body as JSON, or None when it is none (malformed on purpose). Not to be changed: it is kept."""
        if self._asked is None or self._asked[0] is not self.request_body:
            try:
                self._asked = self.request_body, json.loads(self.request_body)
            except (ValueError, RecursionError):
                self._asked = self.request_body, None
        return self._asked[1]

    def to_json(self) -> dict[str, Json]:
        """As JSON values."""
        return {
            "id": self.id,
            "label": self.label,
            "method": self.method,
            "path": self.path,
            "request_headers": [list(pair) for pair in self.request_headers],
            "request_body": _pack(self.request_body),
            "host": self.host,
            "started_at": self.started_at,
            "t0": self.t0,
            "sent_at": self.sent_at,
            "head_at": self.head_at,
            "closed_at": self.closed_at,
            "status": self.status,
            "http_version": self.http_version,
            "reason": self.reason,
            "headers": [list(pair) for pair in self.headers],
            "head": _pack(self.head),
            "framing": self.framing,
            "chunks": [[chunk.at, _pack(chunk.data)] for chunk in self.chunks],
            "end": self.end,
            "error": self.error,
        }

    @classmethod
    def from_json(cls, value: dict[str, Json]) -> Exchange:
        """Inverse of `to_json`. Raises KeyError, TypeError or ValueError on anything else."""
        fields = dict(value)
        fields["request_headers"] = [(k, v) for k, v in value["request_headers"]]
        fields["headers"] = [(k, v) for k, v in value["headers"]]
        fields["request_body"] = _unpack(value["request_body"])
        fields["head"] = _unpack(value["head"])
        fields["chunks"] = [Chunk(at, _unpack(data)) for at, data in value["chunks"]]
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line a worker wrote, without its line end; ill-formed UTF-8 shows as backslash escapes."""

    stream: Literal["stdout", "stderr"]
    at: float
    """Seconds since the process was started."""
    text: str


@dataclass(slots=True)
class Launch:
    """One worker process.

    For the shared worker of a group, `lines` holds the start-up lines (up to ready) and those written during this
    check.
    """

    label: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    """Only the variables that were set on top of the inherited environment."""
    model: str = ""
    """Name of the probe model it was given, or the path as the user gave it."""
    shared: bool = False
    started: float = 0.0
    """Unix time of the start."""
    t0: float = 0.0
    """Start on the recording's clock; negative for a worker older than the check."""
    port: int = 0
    lines: list[LogLine] = field(default_factory=list)
    dropped_lines: int = 0
    """Lines the ring buffer had to forget."""
    ready_at: float | None = None
    """When the port first accepted a connection and GET /health answered, seconds since start."""
    listening_at: float | None = None
    """When the port first accepted a connection."""
    exit_code: int | None = None
    """None while running; negative = killed by that signal."""
    exited_at: float | None = None
    signals: list[tuple[str, float]] = field(default_factory=list)
    """Signals the check sent, with their times; the harness's own clean-up is not listed."""
    measures: dict[str, float] = field(default_factory=dict)
    """Numbers read from outside: "rss_bytes", "rss_peak_bytes", "children", "threads", …"""

    def to_json(self) -> dict[str, Json]:
        """As JSON values."""
        return {
            "label": self.label,
            "argv": list(self.argv),
            "env": dict(self.env),
            "model": self.model,
            "shared": self.shared,
            "started": self.started,
            "t0": self.t0,
            "port": self.port,
            "lines": [[line.stream, line.at, line.text] for line in self.lines],
            "dropped_lines": self.dropped_lines,
            "ready_at": self.ready_at,
            "listening_at": self.listening_at,
            "exit_code": self.exit_code,
            "exited_at": self.exited_at,
            "signals": [list(signal) for signal in self.signals],
            "measures": dict(self.measures),
        }

    @classmethod
    def from_json(cls, value: dict[str, Json]) -> Launch:
        """Inverse of `to_json`."""
        fields = dict(value)
        fields["lines"] = [LogLine(stream, at, text) for stream, at, text in value["lines"]]
        fields["signals"] = [(name, at) for name, at in value["signals"]]
        return cls(**fields)


@dataclass(slots=True)
class Recording:
    """Everything one check saw."""

    check: str
    """"test_stream.py::test_order[short]": module, function and parameter of the check."""
    clauses: tuple[str, ...]
    """Clauses whose judges read this recording."""
    exchanges: list[Exchange] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    facts: dict[str, Json] = field(default_factory=dict)
    """What the check knew or chose: the probe's promises, which job it cancelled, …"""
    samples: dict[str, list[float]] = field(default_factory=dict)
    """Timing samples in seconds, by name."""
    settings: dict[str, Json] = field(default_factory=dict)
    """What the run fixed for all checks: target kind, device, harness floor, timing scale."""
    outcome: Outcome = "completed"
    """"not-exercised": the situation did not come about (a lost race); "out-of-reach": this kind of target cannot
    show it (a URL starts no worker, a CPU has no VRAM); "blocked": no usable worker; "harness-error": the suite
    failed."""
    note: str = ""
    """One sentence for every outcome but "completed"."""

    def labelled(self, label: str) -> list[Exchange]:
        """Exchanges of this label, in order."""
        return [exchange for exchange in self.exchanges if exchange.label == label]

    def exchange(self, label: str) -> Exchange | None:
        """First exchange of this label, or None: a judge that finds none yields nothing."""
        return next(iter(self.labelled(label)), None)

    def launch(self, label: str) -> Launch | None:
        """First launch of this label, or None."""
        return next((launch for launch in self.launches if launch.label == label), None)

    def to_json(self) -> dict[str, Json]:
        """As JSON values."""
        return {
            "check": self.check,
            "clauses": list(self.clauses),
            "exchanges": [exchange.to_json() for exchange in self.exchanges],
            "launches": [launch.to_json() for launch in self.launches],
            "facts": self.facts,
            "samples": self.samples,
            "settings": self.settings,
            "outcome": self.outcome,
            "note": self.note,
        }

    @classmethod
    def from_json(cls, value: dict[str, Json]) -> Recording:
        """Inverse of `to_json`. Raises KeyError, TypeError or ValueError on anything else."""
        fields = dict(value)
        fields["clauses"] = tuple(value["clauses"])
        fields["exchanges"] = [Exchange.from_json(item) for item in value["exchanges"]]
        fields["launches"] = [Launch.from_json(item) for item in value["launches"]]
        return cls(**fields)

    def encode(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, UTF-8, lone surrogates escaped."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")

    @property
    def sha(self) -> str:
        """SHA-256 of `encode()`, hexadecimal."""
        return hashlib.sha256(self.encode()).hexdigest()

    @classmethod
    def decode(cls, data: bytes) -> Recording:
        """Inverse of `encode`."""
        return cls.from_json(cast("dict[str, Json]", json.loads(data)))
