"""Records intermediate values of jobs for parity work, by llama.cpp's checkpoint names.

While a job runs, recording is a copy appended to a list; figures are taken and lines written when the job is over, and
nothing is left for the process's exit. The copies of all jobs together hold at most HELD_BYTES: from there on each new
one turns the oldest into a line. One line of JSON per checkpoint and token. The fields ts, team,
checkpoint, token_idx, dtype, shape and values are those of earlier loggers; not-a-number and the infinities are the
words "nan", "inf" and "-inf".

Environment: ORCH_LOG_FILE (path; its presence turns recording on), ORCH_LOG_TEAM, ORCH_LOG_VALUES (leading values per
line), ORCH_LOG_CHECKPOINTS (names, comma-separated, with or without "-<layer>"; "all"; default result_output),
ORCH_LOG_ROWS ("last": logits of the last prompt token, "all": of every one), ORCH_LOG_VECTORS (1, or a path: whole
vectors as raw little-endian numbers in a side file).
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from m0_worker.checkpoint_copies import Copies
from m0_worker.checkpoint_lines import LOGITS, SCHEMA, Figures, described

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from numpy.typing import NDArray

    from m0_worker.checkpoint_copies import Origin

DEFAULT_TEAM: Final = "m0-worker"
DEFAULT_VALUES: Final = 10
HELD_BYTES = 64 << 20  # the logits of 107 tokens with a vocabulary of 152k
_HELD_LINES = 4096

_ALIASES = {"logits": LOGITS, "inp_embd": "embd"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What to record and where.

    Attributes:
        path: JSON lines are appended here.
        team: copied into every line.
        values: leading values in a line.
        names: checkpoints with or without "-<layer>"; None for all.
        all_rows: logits of every prompt token.
        vectors: side file for whole vectors, or None.
    """

    path: Path
    team: str = DEFAULT_TEAM
    values: int = DEFAULT_VALUES
    names: frozenset[str] | None = frozenset({LOGITS})
    all_rows: bool = False
    vectors: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Read the ORCH_LOG_* variables; None without ORCH_LOG_FILE.

        Raises:
            ValueError: a variable that cannot be meant, or a file that cannot be written; names both and the cure.
        """
        name = environment.get("ORCH_LOG_FILE", "")
        if not name:
            return None
        path = Path(name)
        count = environment.get("ORCH_LOG_VALUES", str(DEFAULT_VALUES))
        if not count.isascii() or not count.isdigit() or len(count) > 9:
            raise ValueError(f"ORCH_LOG_VALUES is {count!r}; give an integer: values per line")
        rows = environment.get("ORCH_LOG_ROWS", "last")
        if rows not in {"last", "all"}:
            raise ValueError(f"ORCH_LOG_ROWS is {rows!r}; give 'last' or 'all'")
        wanted = {n.strip() for n in environment.get("ORCH_LOG_CHECKPOINTS", LOGITS).split(",")} - {""}
        side = environment.get("ORCH_LOG_VECTORS", "")
        vectors = None if side in {"", "0"} else path.with_name(path.name + ".vectors") if side == "1" else Path(side)
        for file in (path, vectors):
            if file is not None:
                try:
                    file.open("ab").close()
                except OSError as e:
                    raise ValueError(f"cannot write the recording {file}: {e.strerror}; name a writable file") from e
        return cls(
            path=path,
            team=environment.get("ORCH_LOG_TEAM", DEFAULT_TEAM),
            values=int(count),
            names=None if "all" in wanted else frozenset(_ALIASES.get(n, n) for n in wanted),
            all_rows=rows == "all",
            vectors=vectors,
        )


class Recorder:
    """Records the jobs of one process.

    Attributes:
        run_id: tells this process's lines from others in the same file.
        copies: what its jobs recorded and is no line yet.
    """

    def __init__(self, settings: Settings, *, model: str = "") -> None:
        self.settings = settings
        self.model = model
        self.run_id = uuid.uuid4().hex
        self.copies = Copies(HELD_BYTES)

    def job(self, request_id: str) -> JobRecorder:
        """A tap for one job; its lines are written by :meth:`JobRecorder.write` or :meth:`JobRecorder.close`."""
        return JobRecorder(self, request_id)


class JobRecorder:
    """The tap of one job. Implements :class:`m0_worker.devices.interface.Tap`."""

    def __init__(self, recorder: Recorder, request_id: str) -> None:
        self._recorder = recorder
        self._copies = recorder.copies
        self._settings = recorder.settings
        self._request_id = request_id
        names = self._names = self._settings.names
        self._plain = None if names is None else frozenset(n.rpartition("-")[0] if _layered(n) else n for n in names)
        self._token_ids: list[int] = []
        self._at = 0.0
        self._end = 0
        self._seen = 0  # checkpoints
        self._taken = 0  # of those, no copies any more
        self._counted = 0  # the pass, by its end, that the counts are about
        self._counts: dict[tuple[str, int], int] = {}
        self._lines: list[str] = []
        self._failure: OSError | None = None

    @property
    def all_rows(self) -> bool:
        """See the interface."""
        return self._settings.all_rows

    def wants(self, name: str) -> bool:
        """See the interface."""
        return self._plain is None or name in self._plain

    def begin(self, tokens: Sequence[int], position: int) -> None:
        """See the interface."""
        self._token_ids += tokens
        self._at = time.time()
        self._end = position + len(tokens)

    def __call__(self, name: str, layer: int, array: NDArray[Any]) -> None:
        """See the interface."""
        names = self._names
        if names is not None and name not in names and f"{name}-{layer}" not in names:
            return
        if len(array):
            self._seen += 1
            self._copies.keep(self, (self._at, self._end, name, layer, self._token_ids), array)
            self._token_ids = []

    def write(self) -> Generator[None, None, None]:
        """Write what was recorded; yields between lines so that other work may run.

        Raises:
            OSError: a file could not be written, now or while the job ran.
        """
        while self._taken < self._seen:
            self._copies.pop()  # the oldest, perhaps of a job before this one
            yield
        if self._failure is not None:
            raise self._failure
        self._append()

    def close(self) -> None:
        """Write what is not written yet, at once.

        Raises:
            OSError: see :meth:`write`.
        """
        for _ in self.write():
            pass

    def take(self, origin: Origin, values: NDArray[Any]) -> None:
        """Turn one checkpoint, (rows, n), into a line for each row: the last rows of the pass's tokens.

        A file that cannot be written is no error of the job that may be running: :meth:`write` will raise it.
        """
        self._taken += 1
        if self._failure is None:
            try:
                self._describe(origin, np.ascontiguousarray(values.reshape(len(values), -1)))
                if len(self._lines) >= _HELD_LINES:
                    self._append()
            except OSError as error:
                self._failure = error
                self._lines = []

    def _append(self) -> None:
        if self._lines:
            with self._settings.path.open("a", encoding="ascii") as file:
                file.write("".join(self._lines))
        self._lines = []

    def _describe(self, origin: Origin, rows: NDArray[Any]) -> None:
        at, end, name, layer, token_ids = origin
        if end != self._counted:
            self._counted, self._counts = end, {}
        occurrence = self._counts[name, layer] = self._counts.get((name, layer), -1) + 1
        settings = self._settings
        vectors = None if settings.vectors is None else _append_vectors(settings.vectors, rows)
        figures = Figures.of(rows)
        first = end - len(rows)
        for r, row in enumerate(rows):
            said: dict[str, Any] = {
                "ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
                "team": settings.team,
                "checkpoint": name if layer < 0 else f"{name}-{layer}",
                "token_idx": first + r,
                **described(name, row, figures, r, settings.values),
                "schema": SCHEMA,
                "run_id": self._recorder.run_id,
                "model": self._recorder.model,
                "request_id": self._request_id,
                "position": first + r,
                "layer": layer,
                "occurrence": occurrence,
                "token_ids": [] if r else token_ids,
            }
            if vectors is not None and settings.vectors is not None:
                offset = vectors + r * row.nbytes
                said["vector"] = {"file": settings.vectors.name, "offset": offset, "bytes": row.nbytes}
            self._lines.append(json.dumps(said, separators=(",", ":")) + "\n")


def _append_vectors(path: Path, rows: NDArray[Any]) -> int:
    """Append the rows' numbers to the side file; returns where the first lies."""
    with path.open("ab") as file:
        file.write(rows.data)
        return file.tell() - rows.nbytes


def _layered(name: str) -> bool:
    return name.rpartition("-")[2].isdigit() and "-" in name
