"""What a run leaves on disk: recordings named by their digest, and one NDJSON line per thing that happened.

    <report dir>/run.ndjson               header, recording*, finding*, check*, footer; no footer = a truncated run
    <report dir>/transcripts/<sha>.json   one recording, canonical JSON, its name its SHA-256
    <report dir>/repro/<id>.json          the script of a generated failure, see `scripts.py`

Credentials and home folders are taken out before a recording is hashed and before it is judged, so what is stored is
what was judged. Response bodies are left as they came.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from m0_conformance.recording import belongings
from m0_conformance.recording.redact import redact, redact_headers, redact_json
from m0_conformance.recording.transcript import LogLine, Recording

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from m0_conformance.judging.finding import Finding

STREAM = "run.ndjson"
TRANSCRIPTS = "transcripts"
SCRIPTS = "repro"


def cleaned(recording: Recording) -> Recording:
    """A copy without credentials and home folders, exactly as it will be read back from disk."""
    copy = Recording.decode(recording.encode())
    for exchange in copy.exchanges:
        exchange.request_headers = redact_headers(exchange.request_headers)
        exchange.headers = redact_headers(exchange.headers)
    for launch in copy.launches:
        launch.argv = [redact(word) for word in launch.argv]
        launch.env = redact_json(launch.env)
        launch.lines = [LogLine(line.stream, line.at, redact(line.text)) for line in launch.lines]
    copy.facts = redact_json(copy.facts)
    copy.note = redact(copy.note)
    return copy


def stream_line(kind: str, values: dict[str, Any]) -> str:
    """One line of the record of a run."""
    return json.dumps({"kind": kind, **values}, allow_nan=False) + "\n"


def counted(kinds: Counter[str]) -> dict[str, int]:
    """The footer's counts, from how many lines of each kind there are."""
    return {f"{kind}s": n for kind, n in kinds.items() if kind != "header"}


class RunStore:
    """Writes one run; use it as a context manager, or the footer will be missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counts: Counter[str] = Counter()
        self._sha = hashlib.sha256()
        self.written = 0
        """Bytes on disk so far."""
        belongings.clear(folder)
        (folder / TRANSCRIPTS).mkdir(exist_ok=True)
        self._stream = (folder / STREAM).open("w", encoding="ascii")

    def line(self, kind: str, **values: Any) -> None:
        """One NDJSON line, flushed."""
        self._counts[kind] += 1
        line = stream_line(kind, values)
        self._sha.update(line.encode("ascii"))
        self.written += len(line)
        self._stream.write(line)
        self._stream.flush()

    def recording(self, recording: Recording) -> str:
        """Store a recording that `cleaned` returned; its digest."""
        sha = recording.sha
        name, data = f"{TRANSCRIPTS}/{sha}.json", recording.encode()
        belongings.claim(self.folder, [name])
        (self.folder / name).write_bytes(data)
        self.written += len(data)
        self.line(
            "recording", sha=sha, check=recording.check, clauses=list(recording.clauses), outcome=recording.outcome
        )
        return sha

    def findings(self, findings: Iterable[Finding]) -> None:
        """One line each."""
        for finding in findings:
            self.line("finding", **finding.to_json())

    def footer(self, **values: Any) -> None:
        """The run was completed. Besides `values` it holds how many lines of each kind there are, and their SHA-256."""
        self.line("footer", **counted(self._counts), **values, lines_sha256=self._sha.hexdigest())

    def close(self) -> None:
        """Close the stream; without a footer before it the run counts as truncated."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StoreError(Exception):
    """A stored recording is missing or was changed; the message says which."""


def read_recording(folder: Path, sha: str) -> Recording:
    """One stored recording. Raises StoreError when its bytes do not have this digest."""
    path = folder / TRANSCRIPTS / f"{sha}.json"
    try:
        recording = Recording.decode(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path} is missing: {error.strerror}; give the whole report folder") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is no recording: {error}") from error
    if recording.sha != sha:
        raise StoreError(f"{path} was changed after the run: its content has digest {recording.sha[:16]}…")
    return recording
