"""A model's one-token pass written down, and what kernels must be compiled for to run it. Needs no device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from m0_worker.devices.cuda.program import DEFINES, WARPS, ops, ring_bytes, types, vector_bytes
from m0_worker.devices.cuda.recorder import Recorder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m0_worker.devices.cuda.recorder import Node
    from m0_worker.devices.interface import Adapter, Tap

_SPARE = 1024  # bytes of shared memory left free: alignment


class Chip(Protocol):
    """What a program depends on of the device it is recorded for."""

    multiprocessors: int
    shared_bytes: int  # that a block may ask for


class RecordStep:
    """The Step that a one-token pass is recorded with."""

    n_tokens = 1

    def __init__(self, device: Any, trace: Recorder, tap: Tap | None) -> None:
        self.device = device
        self.trace = trace
        self._tap = tap

    def watches(self, name: str) -> bool:
        """See the interface."""
        return self._tap is not None and self._tap.wants(name)

    def tap(self, name: str, layer: int, array: Node) -> None:
        """See the interface."""
        if self.watches(name):
            self.trace.mark(name, layer, array)


class Addresses:
    """Memory of nodes, one behind the other from ``start`` on."""

    def __init__(self, start: int) -> None:
        self._start = start
        self.used = 0

    def take(self, nbytes: int) -> int:
        """An address, aligned like an allocation of its own."""
        address = self._start + self.used
        self.used += -(-nbytes // 256) * 256
        return address or 256  # 0 means that a node has none


def record(
    device: Chip, model: Adapter, n_head: int, tap: Tap | None, addresses: Addresses
) -> tuple[Recorder, NDArray[Any], int]:
    """Record a pass: the recorder, its instructions, and the address of the logits."""
    recorder = Recorder(addresses.take, model.cache, n_head, device.multiprocessors)
    logits = _run(model.forward(RecordStep(device, recorder, tap)))
    return recorder, *recorder.finish(logits)


def widest(model: Adapter, n_head: int, code: NDArray[Any]) -> int:
    """Bytes of shared memory that the hungriest instruction needs beside the rings."""
    shape = model.cache
    group = n_head // shape.n_kv_head
    return max(vector_bytes(code[i], shape.head_dim, group) for i in range(len(code)))


def model_defines(device: Chip, model: Adapter, n_head: int, code: NDArray[Any]) -> dict[str, int]:
    """What all of a model's kernels are compiled with, from its plain program.

    Raises:
        ValueError: the model's heads or rows are of a size that the kernels do not have.
    """
    shape = model.cache
    if shape.head_dim % 8 or shape.head_dim > 256:
        raise ValueError(f"heads of {shape.head_dim} features; a multiple of 8 up to 256 is needed")
    return {
        **DEFINES,
        "HEAD_DIM": shape.head_dim,
        "GROUP": n_head // shape.n_kv_head,
        "KV_F32": int(shape.dtype == "f32"),
        "TYPES": types(code),
        "RING_BYTES": ring_bytes(device.shared_bytes - widest(model, n_head, code) - _SPARE),
    }


def decode_defines(defines: dict[str, int], code: NDArray[Any]) -> dict[str, int]:
    """What the step's kernels are compiled with: for what a program does, and no more."""
    return {**defines, "OPS": ops(code)}


def rings(defines: dict[str, int]) -> int:
    """Bytes of shared memory that a block's rings take."""
    return WARPS * defines["RING_BYTES"] + 128


def _run(forward: Any) -> Any:
    """The return value of a forward pass run to its end."""
    while True:
        try:
            next(forward)
        except StopIteration as stop:
            return stop.value


class _Heads(Exception):  # noqa: N818 - carries an answer
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


def count_heads(device: Chip, model: Adapter) -> int:
    """Query heads, seen from the first attention: the cache's shape does not say.

    Raises:
        ValueError: the model attends nowhere.
    """

    class Probe(Recorder):
        def attend(self, q: Node, k: Node, v: Node, layer: int, **_: Any) -> Node:  # noqa: ARG002 - Recorder's
            raise _Heads(q.width)

    probe = Probe(lambda nbytes: 256, model.cache, 1, device.multiprocessors)  # noqa: ARG005 - no memory is taken
    try:
        _run(model.forward(RecordStep(device, probe, None)))
    except _Heads as heads:
        return heads.width // model.cache.head_dim
    raise ValueError("the model has no attention")
