"""Activations of a prompt pass: rows in device memory, or an operation that waits for the one it is fused with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from m0_worker.devices.cuda.program import Norm

if TYPE_CHECKING:
    from m0_worker.devices.cuda.rotation import CudaRotation
    from m0_worker.devices.cuda.weights import Matrix


@dataclass(eq=False, slots=True)
class Rows:
    """(n, width) float32 on the device, rows ``ld`` floats apart; address 0 while it waits for its consumer."""

    trace: object  # the pass that it belongs to, and that does the device's operations on it
    width: int
    address: int = 0
    ld: int = 0


@dataclass(eq=False, slots=True)
class NormedRows(Rows):
    """A norm that waits; ``half`` and ``scales`` once it was made for a product."""

    x: int = 0
    kind: Norm = Norm.NONE
    weight: int = 0
    bias: int = 0
    eps: float = 0.0
    half: int = 0
    scales: int = 0


@dataclass(eq=False, slots=True, kw_only=True)
class ProductRows(Rows):
    """A product that waits for its activation."""

    x: Rows
    matrix: Matrix
    bias: int


@dataclass(eq=False, slots=True, kw_only=True)
class RotatedRows(Rows):
    """A rotation that waits for attention."""

    x: Rows
    table: CudaRotation


@dataclass(eq=False, slots=True, kw_only=True)
class EmbeddedRows(Rows):
    """Embedding rows that wait for the positions' rows."""

    table: Matrix
    positions: Matrix | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class ChosenRows(Rows):
    """The router's choice: ids (int32) or weights."""

    n_experts: int
    ids: int
    weights: int
    integers: bool = False
