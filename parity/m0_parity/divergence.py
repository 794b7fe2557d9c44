"""Finding where a computation first goes wrong, and confirming that it goes wrong there and not before.

Two views of the same request. *Free-running*: both engines compute on from their own results; an error spreads
downstream, and the first step (30 times its predecessor) marks where it began. *Teacher-forced*: the worker repeats
every operation from the reference's own inputs, so that an error shows only at the operation that makes it, and far
below what free-running can see. The first place of the second view, where there is one, is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from m0_parity.capture import Work, WorkerSettings, record_worker
from m0_parity.compare import Cell, Comparison, compare
from m0_parity.diagnose import diagnose
from m0_parity.names import LOGITS, Place, rank, told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from m0_parity.recording import Recording

T2_BOUND: Final = 1e-10
GPT2_BOUND: Final = 1e-6

ATTENTION: Final = 3e-11
_NORM, _PRODUCT, _EXPERTS = 1e-13, 3e-12, 2e-11
_LOCAL: Final[dict[str, float]] = {
    "embd": 0.0,
    "inpL": 1e-14,
    "attn_norm": _NORM,
    "ffn_norm": _NORM,
    "result_norm": _NORM,
    "kqv_out": ATTENTION,
    "ffn_out": _EXPERTS,
    "l_out": _EXPERTS,
    "ffn_moe_topk": 0.0,
}
"""NMSE of one operation from equal inputs: ten or more times what float32 rounding measures, so that a wrong epsilon
(2e-11 after a norm) is still found."""


def free_bound(architecture: str) -> float:
    """The T2 bound of an architecture.

    gpt2 alone is held wider: llama.cpp looks GELU up in a table of FP16 values. Emulating the table closes the gap for
    one operation, not for a whole model, because inputs that differ in the last bit fall to either side of a rounding
    border.
    """
    return GPT2_BOUND if architecture == "gpt2" else T2_BOUND


def local_bound(place: Place, *, gelu_table: bool = True) -> float:
    """The bound of one operation computed from the reference's own inputs."""
    if place[1] == "ffn_gelu":
        return 1e-9 if gelu_table else GPT2_BOUND
    return _LOCAL.get(place[1], _PRODUCT)


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place where candidate and reference part."""

    place: Place
    request: str
    position: int
    nmse: float
    """Free-running NMSE at the place."""
    local: float
    """NMSE of the operation alone, from the reference's inputs."""
    layer_replayed: float
    """NMSE at the place when only the layer's input is the reference's."""
    confirmed: bool
    """The operation alone reproduces the divergence."""
    diagnosis: str
    also: tuple[Place, ...] = ()
    """Other places that diverge on their own, from equal inputs."""

    def sentence(self) -> str:
        """One line for people."""
        proof = "confirmed from the reference's own inputs" if self.confirmed else "not reproduced from equal inputs"
        return (
            f"first divergence: {told(self.place)}, request {self.request!r}, position {self.position}, "
            f"NMSE {self.nmse:.1e} ({proof}); {self.diagnosis}"
        )


def locate(
    path: Path,
    work: Sequence[Work],
    reference: Recording,
    free: Comparison,
    settings: WorkerSettings,
    *,
    bound: float,
) -> Divergence | None:
    """The first divergence of the worker on ``path`` from ``reference``, or None where there is none.

    ``free`` compares the free-running worker with the reference; the worker is run twice more, teacher-forced.
    """
    exact = settings.gelu_table
    forced = record_worker(path, work, settings, forced=reference)
    local = compare(reference, forced, same_model=False)
    wrong = local.exceeding(lambda place: local_bound(place, gelu_table=exact))
    step = free.first_step(lambda _: bound)
    if not wrong and step is None:
        return None
    first = min(wrong, key=lambda cell: rank(cell.place)) if wrong else step
    assert first is not None  # noqa: S101  # one of the two exists
    place, request = first.place, first.request
    shown = next(c for c in free.cells if c.place == place and c.request == request)
    replayed = _replay_layer(path, work, reference, settings, first)
    own = next((c.nmse for c in local.cells if c.place == place and c.request == request), float("nan"))
    others = sorted({c.place for c in wrong} - {place}, key=rank)
    return Divergence(
        place=place,
        request=request,
        position=first.first_position(local_bound(place, gelu_table=exact) if wrong else bound),
        nmse=shown.nmse,
        local=own,
        layer_replayed=replayed,
        confirmed=bool(wrong),
        diagnosis=diagnose(place, reference, forced if wrong else None),
        also=tuple(others),
    )


def _replay_layer(
    path: Path, work: Sequence[Work], reference: Recording, settings: WorkerSettings, first: Cell
) -> float:
    """NMSE at the place when only the input of its layer is the reference's."""
    layer, name = first.place
    request = reference.requests[first.request]
    if layer < 0 and name in {"embd", "inpL"}:
        return first.nmse  # nothing comes before
    if layer < 0:
        source: Place = max((p for p in request.rows if p[1] == "l_out"), default=(-1, LOGITS))
    elif layer > 0:
        source = (layer - 1, "l_out")
    else:
        source = (-1, "inpL") if (-1, "inpL") in request.rows else (-1, "embd")
    replay = record_worker(path, work, settings, forced=reference, only=frozenset({source}))
    cells = compare(reference, replay, same_model=False).cells
    return next(c.nmse for c in cells if c.place == first.place and c.request == first.request)
