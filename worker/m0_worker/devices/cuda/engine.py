"""A model on the device: its recorded passes, compiled kernels and captured graph, shared by all jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from m0_worker.devices.cuda import driver
from m0_worker.devices.cuda.arena import Arena
from m0_worker.devices.cuda.passes import Passes
from m0_worker.devices.cuda.prefill import PASS, PassDevice, PassDone, Prefill, PrefillStep
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
)
from m0_worker.devices.cuda.recording import (
    Addresses,
    Chip,
    count_heads,
    decode_defines,
    model_defines,
    record,
    rings,
    widest,
)
from m0_worker.devices.interface import Pause
from m0_worker.gguf import GgmlType

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from m0_worker.devices.cuda.memory import Buffer, Pool
    from m0_worker.devices.cuda.recorder import Mark
    from m0_worker.devices.cuda.rotation import CudaRotation
    from m0_worker.devices.interface import Adapter, Tap

THREADS = 32 * (WARPS + 1)  # of a block of the decode launch: one warp looks ahead
_ARMED = 0xFF  # bytes of a value that was not written yet (kernels/exchange.cuh)
SAMPLE_THREADS = 512
CHUNK = 512  # prompt tokens of one pass
# Positions whose attention splits the buffer for partial sums holds: splits of 2,048 tokens and more.
MAX_POSITIONS = 1 << 17
_SAMPLE_SCRATCH = 12 * 2048 * 8 + 3 * 1024 * 8


class EngineDevice(PassDevice, Chip, Protocol):
    """What an engine needs of the device that it runs on."""

    pool: Pool
    tables: list[CudaRotation]

    @property
    def narrow(self) -> bool:
        """Whether products of up to 64 tokens have blocks of their own."""


class Program:
    """A recorded one-token pass on the device.

    Attributes:
        count: instructions; those from ``head`` on make logits and pick.
        logits: their address.
        ops: bit set of what its instructions do.
        marks: checkpoints to show, in order.
    """

    def __init__(self, engine: Engine, tap: Tap | None) -> None:
        device = engine.device
        self._stream = device.stream
        # Recorded twice: once to see how much memory the nodes take, then into two sets of it, one behind the other.
        counter = Addresses(0)
        record(device, engine.model, engine.n_head, tap, counter)
        self.set_bytes = -(-counter.used // 256) * 256
        self._sets = device.pool.allocate(2 * COPIES * self.set_bytes, "intermediates")
        memory = Addresses(self._sets.address)
        recorder, code, self.logits = record(device, engine.model, engine.n_head, tap, memory)
        self.head = recorder.head if recorder.head is not None else 0
        self.marks: list[Mark] = recorder.marks
        self.count = len(code)
        self.ops = ops(code)
        self.vector_bytes = widest(engine.model, engine.n_head, code)
        self.code = device.pool.allocate(code.nbytes, "intermediates")
        driver.upload(self.code.address, code)
        self.instructions: NDArray[Any] = code
        self.plans: Buffer | None = None
        self.arm()

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

    def __init__(self, device: EngineDevice, model: Adapter) -> None:
        self.device = device
        self.model = model
        self.n_head = count_heads(device, model)
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
        defines = self._defines = model_defines(device, model, self.n_head, self.plain.instructions)
        self._rings = rings(defines)
        self._decode: dict[int, driver.Kernels] = {}
        self._kernels(self.plain)

        self.prefill_kernels = driver.Kernels("prefill.cu", defines)
        self.passing: Buffer = pool.allocate(PASS.itemsize + 4 * CHUNK, "intermediates")
        self.n_embd = int(self.plain.instructions[self.plain.head]["k"])
        self.arena = Arena(pool)
        self.chunk = 0
        self.passes = Passes(device.stream, self._enqueue, 4 * self.n_embd)
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

    def run_pass(self, n: int) -> Generator[None, None, int]:
        """Enqueue a pass over n tokens that nobody watches; returns where the last token's row will be."""
        tables = [table.address for table in self.device.tables]
        return self.passes.run(n, tables, narrow=self.device.narrow)

    def _enqueue(self, rows: int, narrow: bool) -> Generator[None, None, int]:
        trace = Prefill(self, self.arena, n=rows, n_out=0, narrow=narrow)
        yield from self.layers(trace, rows, None)
        return trace.last - 4 * (rows - 1) * self.n_embd

    def _kernels(self, program: Program) -> driver.Kernels:
        """What runs a program: a watched one has instructions of its own, and the first that has them compiles."""
        kernels = self._decode.get(program.ops)
        if kernels is None:
            defines = decode_defines(self._defines, program.instructions)
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
