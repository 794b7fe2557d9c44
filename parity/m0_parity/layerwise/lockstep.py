"""The worker's own forward passes, all of them at once, held between layers.

A job runs pass after pass, each through all layers; a comparison layer by layer needs it the other way round. Adapters
give control back between layers, and a pass reads nothing of the one before it but its keys and values in the same
layer. So every pass of a job is started, and all are led through layer 0, then all through layer 1, and so on: the same
operations on the same numbers, in another order. What runs is the worker's device and adapter on the user's file.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from m0_worker.devices.interface import Pause
from m0_worker.sampling import SamplingParams

from m0_parity.names import WORKER_NAMES, Place, from_worker
from m0_parity.recording import Collector, Recording, Request

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy.typing as npt
    from m0_worker.adapters import ModelAdapter
    from m0_worker.devices.interface import Array, CacheShape, Device, Step

    from m0_parity.capture import Work

_GREEDY: Final = SamplingParams(temperature=0.0)


@dataclass(slots=True)
class _Pass:
    """One forward pass that was started: its generator, its first position and its tokens."""

    steps: Generator[Pause, None, Array]
    position: int
    tokens: int
    seen: dict[tuple[str, int], int] = field(default_factory=dict)


class _Tap:
    """Records what the passes of one job show; puts the reference's values in their place where it is told to."""

    all_rows = True

    def __init__(self, only: frozenset[Place] | None) -> None:
        self.collector = Collector()
        self.forced: Request | None = None
        self.reached = -1
        self.position = 0
        self.current: _Pass | None = None
        self._only = only

    def wants(self, name: str) -> bool:
        return name in WORKER_NAMES

    def begin(self, tokens: Sequence[int], position: int) -> None:  # noqa: ARG002  # the interface has both
        self.position = position

    def __call__(self, name: str, layer: int, array: npt.NDArray[Any]) -> None:
        running = self.current
        if running is None:
            raise RuntimeError("a checkpoint was shown by no pass")
        occurrence = running.seen.get((name, layer), 0)
        running.seen[name, layer] = occurrence + 1
        place = from_worker(name, layer, occurrence)
        if place is None:
            return
        self.collector.add(place, running.position, array)
        if place[1] == "l_out":
            self.reached = layer
        if self.forced is not None:
            self._force(self.forced, place, array, running.position)

    def _force(self, forced: Request, place: Place, array: npt.NDArray[Any], position: int) -> None:
        if place not in forced.rows and place[1] in {"Qpre", "Kpre"}:  # no rotation: before it is all there is
            place = place[0], {"Qpre": "Qcur", "Kpre": "Kcur"}[place[1]]
        rows = forced.rows.get(place)
        if rows is None or rows.features != array.shape[1]:
            return  # another shape is a finding of its own; there is nothing to put in its place
        if self._only is None or place in self._only:
            array[...] = rows.values[position : position + len(array)].astype(array.dtype)


class _Held:
    """An adapter whose passes are started and not run; implements m0_worker.devices.interface.Adapter."""

    def __init__(self, adapter: ModelAdapter, tap: _Tap) -> None:
        self.passes: list[_Pass] = []
        self._adapter = adapter
        self._tap = tap

    @property
    def cache(self) -> CacheShape:
        return self._adapter.cache

    @property
    def n_vocab(self) -> int:
        return self._adapter.n_vocab

    @property
    def n_head(self) -> int:
        return self._adapter.n_head

    def forward(self, step: Step) -> Generator[Pause, None, Array]:
        self.passes.append(_Pass(self._adapter.forward(step), self._tap.position, step.n_tokens))
        yield Pause.LAYER
        return np.zeros((1, self.n_vocab), np.float32)  # nobody reads the token that is sampled from it


class Lockstep:
    """All passes of all requests. Use as a context manager; ask for layers 0, 1, ... in turn, then for the head.

    ``only`` limits which of the reference's values take the place of the worker's own, where a layer is forced.
    """

    def __init__(
        self,
        adapter: ModelAdapter,
        device: Device,
        work: Sequence[Work],
        *,
        only: frozenset[Place] | None = None,
    ) -> None:
        self._adapter = adapter
        self._device = device
        self._work = work
        self._only = only
        self._jobs: list[tuple[Work, _Tap, _Held]] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        for item in self._work:
            tap = _Tap(self._only)
            held = _Held(self._adapter, tap)
            job = self._open.enter_context(
                closing(self._device.open(held, len(item.tokens) + 1, _GREEDY, seed=0, tap=tap))
            )
            for tokens in (item.prompt, *((token,) for token in item.decode)):
                for _ in job.prefill(tokens):
                    pass
            self._jobs.append((item, tap, held))
        return self

    def __exit__(self, *_: object) -> None:
        self._jobs.clear()
        self._open.close()

    def layer(self, layer: int, reference: Recording | None = None) -> Recording:
        """Lead every pass through ``layer`` and return what it showed; ``reference`` holds the values to go on with."""
        recording = Recording({})
        for item, tap, held in self._jobs:
            tap.forced = None if reference is None else reference.requests[item.id]
            for one in held.passes:
                tap.current = one
                tap.reached = -1
                while next(one.steps) is not Pause.LAYER or tap.reached < layer:
                    pass
            recording.requests[item.id] = _collected(item, tap)
        return recording

    def head(self, reference: Recording | None = None) -> Iterator[tuple[Request, int]]:
        """Run every pass to its end; yields what each showed (the last norm and logits), and its first position."""
        for item, tap, held in self._jobs:
            tap.forced = None if reference is None else reference.requests[item.id]
            while held.passes:
                tap.current = one = held.passes.pop(0)
                for _ in one.steps:
                    pass
                yield _collected(item, tap), one.position


def _collected(item: Work, tap: _Tap) -> Request:
    request = tap.collector.finish(Request(item.id, item.tokens, len(item.prompt)))
    tap.collector = Collector()
    return request
