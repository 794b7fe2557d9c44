"""Records intermediate values of jobs for parity work, by llama.cpp's checkpoint names.

While a job runs, recording is a copy appended to a list; figures are taken and lines written when the job is over (or
when copies worth HELD_BYTES have piled up), and nothing is left for the process's exit. One line of JSON per
checkpoint and token. The fields ts, team, checkpoint, token_idx, dtype, shape and values are those of earlier loggers;
not-a-number and the infinities are the words "nan", "inf" and "-inf".

Environment: ORCH_LOG_FILE (path; its presence turns recording on), ORCH_LOG_TEAM, ORCH_LOG_VALUES (leading values per
line), ORCH_LOG_CHECKPOINTS (names, comma-separated, with or without "-<layer>"; "all"; default result_output),
ORCH_LOG_ROWS ("last": logits of the last prompt token, "all": of every one), ORCH_LOG_VECTORS (1, or a path: whole
vectors as raw little-endian numbers in a side file).
"""

from __future__ import annotations

import json
import math
import time
import uuid
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

DEFAULT_TEAM: Final = "m0-worker"
LOGITS: Final = "result_output"
DEFAULT_VALUES: Final = 10
HELD_BYTES: Final = 32 << 20
TOP_K: Final = 10
SCHEMA: Final = 1

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
            raise ValueError(f"ORCH_LOG_VALUES is {count!r}; give a whole number of values per line")
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
    """

    def __init__(self, settings: Settings, *, model: str = "") -> None:
        self.settings = settings
        self.model = model
        self.run_id = uuid.uuid4().hex

    def job(self, request_id: str) -> JobRecorder:
        """A tap for one job; its lines are written by :meth:`JobRecorder.write` or :meth:`JobRecorder.close`."""
        return JobRecorder(self, request_id)


# A copy of one checkpoint of one forward pass: when the pass began (Unix seconds), the position after its last token,
# name, layer, input tokens since the last copy, values. A plain tuple, for a decode step has no microsecond to spare.
_Seen: TypeAlias = "tuple[float, int, str, int, list[int], NDArray[Any]]"


class JobRecorder:
    """The tap of one job. Implements :class:`worker.devices.interface.Tap`."""

    def __init__(self, recorder: Recorder, request_id: str) -> None:
        self._recorder = recorder
        self._settings = recorder.settings
        self._request_id = request_id
        names = self._names = self._settings.names
        self._plain = None if names is None else frozenset(n.rpartition("-")[0] if _layered(n) else n for n in names)
        self._seen: deque[_Seen] = deque()
        self._token_ids: list[int] = []
        self._at = 0.0
        self._end = 0
        self._counted = 0  # the pass, by its end, that the counts are about
        self._counts: dict[tuple[str, int], int] = {}
        self._held = 0
        self._lines: list[str] = []
        self._vectors: list[bytes] = []
        self._vectors_end = 0  # where the next vector will lie in the side file

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
            copy = array.copy()
            self._seen.append((self._at, self._end, name, layer, self._token_ids, copy))
            self._token_ids = []
            self._held += copy.nbytes
            if self._held > HELD_BYTES:
                for _ in self._condense():
                    pass

    def write(self) -> Generator[None, None, None]:
        """Write what was recorded; yields between lines so that other work may run."""
        yield from self._condense()
        self._append()

    def close(self) -> None:
        """Write what is not written yet, at once."""
        for _ in self.write():
            pass

    def _append(self) -> None:
        if self._vectors and self._settings.vectors is not None:
            with self._settings.vectors.open("ab") as file:
                file.write(b"".join(self._vectors))
        if self._lines:
            with self._settings.path.open("a", encoding="ascii") as file:
                file.write("".join(self._lines))
        self._lines, self._vectors = [], []

    def _condense(self) -> Iterator[None]:
        """Turn copies into lines, oldest first; yields after each copy."""
        while self._seen:
            seen = self._seen.popleft()
            self._held -= seen[-1].nbytes
            self._lines.extend(self._describe(*seen))
            yield

    def _describe(
        self, at: float, end: int, name: str, layer: int, token_ids: list[int], values: NDArray[Any]
    ) -> Iterator[str]:
        """A line for each row of a checkpoint, (rows, n): the last rows of the pass's tokens."""
        if end != self._counted:
            self._counted, self._counts = end, {}
        occurrence = self._counts[name, layer] = self._counts.get((name, layer), -1) + 1
        settings = self._settings
        rows = np.ascontiguousarray(values.reshape(len(values), -1))
        with np.errstate(all="ignore"):  # what is recorded may hold infinities
            wide = rows.astype(np.float64)
            lowest, highest, mean = rows.min(axis=1), rows.max(axis=1), wide.mean(axis=1)
            norm = np.sqrt(np.einsum("rn,rn->r", wide, wide))
        first = end - len(rows)
        for r, row in enumerate(rows):
            raw = row.tobytes()
            line: dict[str, Any] = {
                "ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
                "team": settings.team,
                "checkpoint": name if layer < 0 else f"{name}-{layer}",
                "token_idx": first + r,
                "dtype": "i32" if row.dtype.kind == "i" else "f32",
                "shape": f"[{row.size}]",
                "values": [_number(v) for v in row[: settings.values]],
                "schema": SCHEMA,
                "run_id": self._recorder.run_id,
                "model": self._recorder.model,
                "request_id": self._request_id,
                "position": first + r,
                "layer": layer,
                "occurrence": occurrence,
                "token_ids": [] if r else token_ids,
                "n": row.size,
                "min": _number(lowest[r]),
                "max": _number(highest[r]),
                "mean": _number(mean[r]),
                "l2": _number(norm[r]),
                "crc32": f"{zlib.crc32(raw):08x}",
            }
            if name == LOGITS:
                line["top"] = [[int(i), _number(row[i])] for i in _top(row)]
            if settings.vectors is not None:
                if not self._vectors:
                    self._vectors_end = settings.vectors.stat().st_size
                line["vector"] = {"file": settings.vectors.name, "offset": self._vectors_end, "bytes": len(raw)}
                self._vectors.append(raw)
                self._vectors_end += len(raw)
            yield json.dumps(line, separators=(",", ":")) + "\n"


def _layered(name: str) -> bool:
    return name.rpartition("-")[2].isdigit() and "-" in name


def _number(value: np.generic | float) -> float | int | str:
    """A JSON number that reads back as the same float32 or float64, or a word."""
    if isinstance(value, np.integer):
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        return "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"
    return float(f"{number:.9g}") if isinstance(value, np.float32) else number


def _top(row: NDArray[Any]) -> NDArray[np.intp]:
    """Ids of the TOP_K largest values, largest first, the lower id first among equals."""
    if not np.isfinite(row).all():
        row = np.nan_to_num(row, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    k = min(TOP_K, row.size)
    floor = np.partition(row, row.size - k)[row.size - k]
    ids = np.flatnonzero(row >= floor)
    order: NDArray[np.intp] = ids[np.argsort(-row[ids], kind="stable")][:k]
    return order
