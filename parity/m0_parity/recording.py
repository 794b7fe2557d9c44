"""What one engine computed: for each request and place, a row of values per input token, at its absolute position."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from m0_parity.names import LOGITS, Place, rank, without_rope

if TYPE_CHECKING:
    from collections.abc import Iterator

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Values (n, features) at absolute positions (n,) of the input tokens, ascending.

    ``features`` of the true vector; fewer columns are stored where a recorder kept the first values only.
    """

    positions: Positions
    values: Floats
    features: int

    @property
    def partial(self) -> bool:
        """Whether only the first values of each vector were recorded."""
        return int(self.values.shape[1]) < self.features


@dataclass(slots=True)
class Request:
    """One sequence of input tokens: the prompt, then the tokens fed back while decoding."""

    id: str
    tokens: list[int]
    prompt: int
    """How many of ``tokens`` are the prompt."""
    rows: dict[Place, Rows] = field(default_factory=dict)

    def places(self) -> list[Place]:
        """Recorded places in the order of computation."""
        return sorted(self.rows, key=rank)

    def logits(self) -> Rows:
        """The logits.

        Raises:
            KeyError: they were not recorded.
        """
        return self.rows[-1, LOGITS]


@dataclass(slots=True)
class Recording:
    """Everything one engine recorded, with where it came from.

    ``provenance``: engine, model (file name), model_sha256, architecture, settings and versions.
    """

    provenance: dict[str, Any]
    requests: dict[str, Request] = field(default_factory=dict)
    run: str = field(default_factory=lambda: str(uuid.uuid4()))
    vocabulary: list[str] = field(default_factory=list)
    """The texts of the token ids as the file has them, where they are known."""

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests.values())


class Collector:
    """Gathers the pieces of one request as an engine computes them, chunk by chunk."""

    def __init__(self) -> None:
        self._pieces: dict[Place, list[tuple[int, Floats]]] = {}

    def add(self, place: Place, position: int, values: npt.NDArray[Any]) -> None:
        """Rows (n, features) for the input tokens from ``position`` on."""
        self._pieces.setdefault(place, []).append((position, np.array(values, dtype=np.float32)))

    def finish(self, request: Request) -> Request:
        """Join the pieces into the request's rows, in order of position."""
        renames = without_rope(set(self._pieces))
        for place, pieces in self._pieces.items():
            pieces.sort(key=lambda piece: piece[0])
            positions = np.concatenate([np.arange(at, at + len(rows), dtype=np.int64) for at, rows in pieces])
            values = np.concatenate([rows for _, rows in pieces])
            request.rows[renames.get(place, place)] = Rows(positions, values, values.shape[1])
        return request
