"""A model on the device: its recorded passes, compiled kernels and captured graph, shared by all jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from m0_worker.devices.cuda import driver
from m0_worker.devices.cuda.arena import Arena
from m0_worker.devices.cuda.prefill import PASS, PassDone, Prefill, PrefillStep
from m0_worker.devices.cuda.program import (
    COPIES,
    DEFINES,
    PLAN_BYTES,
    RESULT,
    RING,
    STATE,
    WARPS,
    Op,
    ops,
    ring_bytes,
    vector_bytes,
)
from m0_worker.devices.cuda.recorder import Recorder
from m0_worker.devices.interface import Pause
from m0_worker.gguf import GgmlType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from m0_worker.devices.cuda.device import CudaDevice
    from m0_worker.devices.cuda.memory import Buffer
    from m0_worker.devices.cuda.recorder import Mark, Node
    from m0_worker.devices.interface import Adapter, Tap

THREADS = 32 * (WARPS + 1)  # of a block of the decode launch: one warp looks ahead
_ARMED = 0xFF  # bytes of a value that was not written yet (kernels/exchange.cuh)
SAMPLE_THREADS = 512
CHUNK = 512  # prompt tokens of one pass
# Positions whose attention splits the buffer for partial sums holds: splits of 2,048 tokens and more.
MAX_POSITIONS = 1 << 17
_SPARE = 1024  # bytes of shared memory left free: alignment
_SAMPLE_SCRATCH = 12 * 2048 * 8 + 3 * 1024 * 8


class RecordStep:
    """The Step that a one-token pass is recorded with."""

    n_tokens = 1

    def __init__(self, device: CudaDevice, trace: Recorder, tap: Tap | None) -> None:
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


class _Addresses:
    """Memory of nodes, one behind the other from ``start`` on."""

    def __init__(self, start: int) -> None:
        self._start = start
        self.used = 0

    def take(self, nbytes: int) -> int:
        """An address, aligned like an allocation of its own."""
        address = self._start + self.used
        self.used += -(-nbytes // 256) * 256
        return address or 256  # 0 means that a node has none


class Program:
    """A recorded one-token pass on the device.

    Attributes:
        count: instructions; those from ``head`` on make logits and pick.
        logits: their address.
        types: bit set of the storage types it reads.
        ops: bit set of what its instructions do.
        marks: checkpoints to show, in order.
    """

    def __init__(self, engine: Engine, tap: Tap | None) -> None:
        device = engine.device
        self._stream = device.stream
        # Recorded twice: once to see how much memory the nodes take, then into two sets of it, one behind the other.
        counter = _Addresses(0)
        self._record(engine, tap, counter)
        self.set_bytes = -(-counter.used // 256) * 256
        self._sets = device.pool.allocate(2 * COPIES * self.set_bytes, "intermediates")
        recorder, code, self.logits = self._record(engine, tap, _Addresses(self._sets.address))
        self.head = recorder.head if recorder.head is not None else 0
        self.marks: list[Mark] = recorder.marks
        self.count = len(code)
        used = [int(part["type"]) for i in code for part in i["parts"][: int(i["n_parts"])]]
        self.types = sum(1 << kind for kind in set(used))
        self.ops = ops(code)
        shape = engine.model.cache
        group = engine.n_head // shape.n_kv_head
        self.vector_bytes = max(vector_bytes(code[i], shape.head_dim, group) for i in range(self.count))
        self.code = device.pool.allocate(code.nbytes, "intermediates")
        driver.upload(self.code.address, code)
        self.instructions: NDArray[Any] = code
        self.plans: Buffer | None = None
        self.arm()

    @staticmethod
    def _record(engine: Engine, tap: Tap | None, addresses: _Addresses) -> tuple[Recorder, NDArray[Any], int]:
        recorder = Recorder(addresses.take, engine.model.cache, engine.n_head, engine.device.multiprocessors)
        logits = _run(engine.model.forward(RecordStep(engine.device, recorder, tap)))
        return recorder, *recorder.finish(logits)

    def arm(self) -> None:
        """Forget all values, so that any position may be run next. Positions that follow each other need no more."""
        driver.clear(self._sets.address, self._sets.nbytes, self._stream, _ARMED)

    def value(self, address: int, position: int) -> int:
        """Where a node's value lies after ``position`` was run."""
        return address if address == self.logits else address + self.set_bytes * (position & 1)

    def put(self, address: int, position: int, source: int, nbytes: int) -> None:
        """Enqueue the copy of a node's values from elsewhere, as if ``position`` had computed them."""
        for copy in range(COPIES):
            driver.copy(self.value(address, position) + 2 * copy * self.set_bytes, source, nbytes, self._stream)

    def free(self) -> None:
        """Give the memory back."""
        for buffer in [self._sets, self.code, self.plans]:
            if buffer is not None:
                buffer.free()


class Engine:
    """What jobs of one model share. There is one job at a time (M0-W-1301)."""

    def __init__(self, device: CudaDevice, model: Adapter) -> None:
        self.device = device
        self.model = model
        self.n_head = _count_heads(device, model)
        shape = model.cache
        if shape.head_dim % 8 or shape.head_dim > 256:
            raise ValueError(f"heads of {shape.head_dim} features; a multiple of 8 up to 256 is needed")
        self._sample = driver.Kernels("sampling.cu", DEFINES, cooperative=True)
        pool = device.pool
        self.state = pool.allocate(STATE.itemsize, "intermediates")
        self._best = pool.allocate(8 * device.multiprocessors, "intermediates")
        self._scratch = pool.allocate(_SAMPLE_SCRATCH, "intermediates")
        self.seen = pool.allocate(model.n_vocab, "intermediates")
        self.results = driver.pinned(RESULT, RING)
        # Results travel beside the steps, which do not wait for them.
        self.messenger = driver.new_stream()
        self._stepped = driver.new_event()
        self.plain = Program(self, None)
        self._graphs: dict[bool, Any] = {}
        defines = {
            **DEFINES,
            "HEAD_DIM": shape.head_dim,
            "GROUP": self.n_head // shape.n_kv_head,
            "KV_F32": int(shape.dtype == "f32"),
            "TYPES": self.plain.types,
            "RING_BYTES": ring_bytes(device.shared_bytes - self.plain.vector_bytes - _SPARE),
        }
        self._rings = WARPS * defines["RING_BYTES"] + 128
        self._defines = defines
        self._decode: dict[int, driver.Kernels] = {}
        self._kernels(self.plain)

        self.prefill_kernels = driver.Kernels("prefill.cu", defines)
        self.passing: Buffer = pool.allocate(PASS.itemsize + 4 * CHUNK, "intermediates")
        self.n_embd = int(self.plain.instructions[self.plain.head]["k"])
        self.arena = Arena(pool)
        self.chunk = 0
        self._chunk_graph: Any = None
        self._chunk_tables: list[int] | None = None  # rotary tables that the graph reads; a longer one lies elsewhere
        self._chunk_row = 0
        if self._batches():
            self._set_aside(min(CHUNK, MAX_POSITIONS))

    def _batches(self) -> bool:
        """Whether prompts can run many tokens at once; else they run token by token, exactly as decode does."""
        shape, code = self.model.cache, self.plain.instructions
        routed = code[np.isin(code["op"], (Op.EXPERTS_UP, Op.EXPERTS_DOWN))]
        kinds = {int(part["type"]) for i in routed for part in i["parts"][: int(i["n_parts"])]}
        alike = all(len({int(p["type"]) for p in i["parts"][: int(i["n_parts"])]}) == 1 for i in routed)
        whole = all(int(i["k"]) % 8 == 0 for i in routed)
        return shape.dtype == "f16" and shape.head_dim % 16 == 0 and GgmlType.F32 not in kinds and alike and whole

    def _set_aside(self, n: int) -> None:
        """Memory for passes of n tokens: counted by a pass that runs nothing."""
        trace = Prefill(self, self.arena, n=n, n_out=0, dry=True)
        for _ in self.layers(trace, n, None):
            pass
        self.arena.buffer = self.device.pool.allocate(2 * self.arena.peak + 512, "intermediates")
        self.chunk = n

    def layers(self, trace: Prefill, n: int, tap: Tap | None) -> Iterator[None]:
        """Run a pass, yielding between layers."""
        forward = self.model.forward(PrefillStep(self.device, trace, n, tap))
        try:
            while True:
                if next(forward) is Pause.LAYER:
                    self.arena.flip()
                    yield
        except (PassDone, StopIteration):
            return

    def run_chunk(self) -> int:
        """Enqueue a pass over a whole chunk that nobody watches; returns where the last token's row will be.

        The first such pass loads kernels, which a capture must not see; the second is captured, and later ones replay
        it: their launches are the same, and a graph starts them faster than Python does.
        """
        tables = [table.address for table in self.device.tables]
        if self._chunk_tables != tables:
            self._chunk_tables, self._chunk_graph = tables, None
            self._enqueue_chunk()
            return self._chunk_row
        if self._chunk_graph is None:
            self._chunk_graph = driver.capture(self.device.stream, self._enqueue_chunk)
        self._chunk_graph.launch(self.device.stream)
        return self._chunk_row

    def _enqueue_chunk(self) -> None:
        trace = Prefill(self, self.arena, n=self.chunk, n_out=0)
        for _ in self.layers(trace, self.chunk, None):
            pass
        self._chunk_row = trace.last

    def _kernels(self, program: Program) -> driver.Kernels:
        """What runs a program: a watched one has instructions of its own, and the first that has them compiles."""
        kernels = self._decode.get(program.ops)
        if kernels is None:
            defines = {**self._defines, "OPS": program.ops}
            kernels = self._decode[program.ops] = driver.Kernels("decode.cu", defines, cooperative=True)
        return kernels

    def decode(self, program: Program, first: int, count: int) -> None:
        """Enqueue instructions of a program."""
        self._kernels(program).launch(
            "decode",
            (self.device.multiprocessors,),
            THREADS,
            (
                np.uint64(self.state.address),
                np.uint64(program.code.address),
                np.uint64(self._plan(program)),
                np.int32(first),
                np.int32(count),
                np.uint64(self._best.address),
                np.uint32(program.set_bytes // 4),
            ),
            self.device.stream,
            shared=program.vector_bytes + self._rings,
        )

    def _plan(self, program: Program) -> int:
        """Address of a program's plans: which block reads which weights in which instruction. Made once."""
        if program.plans is None:
            grid = self.device.multiprocessors
            program.plans = self.device.pool.allocate(program.count * grid * PLAN_BYTES, "intermediates")
            arguments = (np.uint64(program.code.address), np.int32(program.count), np.uint64(program.plans.address))
            self._kernels(program).launch("plan_program", (grid,), 32, arguments, self.device.stream)
        return program.plans.address

    def sample(self, logits: int) -> None:
        """Enqueue the sampling chain on logits in device memory."""
        grid = min(self.device.multiprocessors, 64)
        while grid * SAMPLE_THREADS * 8 < self.model.n_vocab:
            grid *= 2
        self._sample.launch(
            "sample",
            (min(grid, self.device.multiprocessors),),
            SAMPLE_THREADS,
            (np.uint64(self.state.address), np.uint64(logits), np.uint64(self._scratch.address)),
            self.device.stream,
        )

    def fetch(self) -> None:
        """Enqueue the copy of the last results to the host, on the messenger's stream."""
        self._stepped.record(self.device.stream)
        self.messenger.wait_event(self._stepped)
        offset = int(STATE.fields["results"][1]) if STATE.fields is not None else 0
        driver.download(self.results, self.state.address + offset, self.messenger)

    def step(self, *, greedy: bool) -> None:
        """Enqueue one decode step: the whole program and the choice of a token as one graph; its copy to the host."""
        self._step(greedy=greedy)
        self.fetch()

    def _step(self, *, greedy: bool) -> None:
        graph = self._graphs.get(greedy)
        if graph is None:

            def launches() -> None:
                self.decode(self.plain, 0, self.plain.count)
                if not greedy:
                    self.sample(self.plain.logits)

            with self.device.stream:
                launches()  # the first launch compiles and loads, which a capture must not see; it is also the step
            self.device.stream.synchronize()
            self._graphs[greedy] = driver.capture(self.device.stream, launches)
            return
        graph.launch(self.device.stream)


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


def _count_heads(device: CudaDevice, model: Adapter) -> int:
    """Query heads, seen from the first attention: the cache's shape does not say."""

    class Probe(Recorder):
        def attend(self, q: Node, k: Node, v: Node, layer: int, **_: Any) -> Node:  # noqa: ARG002 - Recorder's
            raise _Heads(q.width)

    probe = Probe(lambda nbytes: 256, model.cache, 1, device.multiprocessors)  # noqa: ARG005 - no memory is taken
    try:
        _run(model.forward(RecordStep(device, probe, None)))
    except _Heads as heads:
        return heads.width // model.cache.head_dim
    raise ValueError("the model has no attention")
