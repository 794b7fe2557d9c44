"""One job on the CUDA device: prompt, then a step a token, the next one running while the last is written out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from m0_worker.devices.cuda import driver
from m0_worker.devices.cuda.engine import Program
from m0_worker.devices.cuda.prefill import PASS, Prefill
from m0_worker.devices.cuda.program import N_TABLES, RING, STATE
from m0_worker.errors import DeviceError
from m0_worker.sampling import NonFiniteLogitsError, stream_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from m0_worker.devices.cuda.engine import Engine
    from m0_worker.devices.cuda.recording import RecordStep
    from m0_worker.devices.interface import Tap
    from m0_worker.sampling import SamplingParams

    CudaStep = RecordStep

# Steps that the device has lined up while the host waits for one: it goes from each to the next by itself, and what the
# host needs for a launch is hidden behind the one that runs.
DEPTH = 2
# Seconds that the host sleeps between two looks at a step: with two lined up, no step waits for it.
PAUSE = 50e-6
# Prompts of so few tokens run faster one by one.
FEW = 2


class CudaDecoding:
    """Implements :class:`m0_worker.devices.interface.Decoding`."""

    def __init__(self, engine: Engine, n_tokens: int, sampling: SamplingParams, *, seed: int, tap: Tap | None) -> None:
        self._engine = engine
        self._device = engine.device
        self._stream = engine.device.stream
        self._capacity = n_tokens
        self._tap = tap
        self._position = 0  # of the next token to run
        self._drawn = 0  # tokens sampled or being sampled
        self._collected = 0
        self._last = 0  # token collected last
        self._closed = False
        self._events = [driver.new_event() for _ in range(DEPTH)]  # of result n at n % DEPTH
        self._greedy = sampling.greedy and sampling.repetition_penalty == 1.0
        cache = engine.model.cache
        self._kv = self._device.pool.allocate(cache.nbytes(n_tokens), "kv")
        try:
            for table in self._device.tables:
                table.grow(n_tokens, self._stream)
        except Exception:
            self._kv.free()
            raise
        self._program: Program | None = None
        driver.clear(self._kv.address, self._kv.nbytes, self._stream)
        driver.clear(engine.seen.address, engine.seen.nbytes, self._stream)
        engine.plain.arm()
        state = self._state = np.zeros(1, STATE)
        layer = cache.nbytes(n_tokens) // cache.n_layer // 2
        state["cache"], state["layer_bytes"], state["value_offset"] = self._kv.address, layer, layer * cache.n_layer
        state["capacity"] = n_tokens
        self._pass = np.zeros(1, PASS)
        self._pass["keys"], self._pass["values"] = self._kv.address, self._kv.address + layer * cache.n_layer
        self._pass["layer_bytes"], self._pass["capacity"] = layer, n_tokens
        state["vocab"] = engine.model.n_vocab if sampling.vocab_size is None else sampling.vocab_size
        state["n_logits"] = engine.model.n_vocab
        state["tables"][0] = ([table.address for table in self._device.tables] + [0] * N_TABLES)[:N_TABLES]
        state["stream"] = stream_of(seed)
        state["temperature"], state["penalty"] = sampling.temperature, sampling.repetition_penalty
        state["top_p"], state["min_p"], state["top_k"] = sampling.top_p, sampling.min_p, sampling.top_k
        state["seen"] = engine.seen.address
        driver.upload(engine.state.address, state, self._stream)

    def prefill(self, tokens: Sequence[int]) -> Iterator[None]:
        """See the interface."""
        if not tokens:
            raise ValueError("a prompt needs at least one token")
        if min(tokens) < 0 or max(tokens) >= self._engine.model.n_vocab:
            raise ValueError(f"prompt token outside the vocabulary of {self._engine.model.n_vocab}")
        self._room(len(tokens))
        with driver.Errors("the prompt failed"):
            yield from self._prefill(tokens)

    def _prefill(self, tokens: Sequence[int]) -> Iterator[None]:
        engine = self._engine
        program = self._one_by_one()
        if engine.chunk and len(tokens) > FEW:
            yield from self._prefill_chunks(tokens)
            self._feed(tokens[-1], greedy=self._greedy)
            self._position += 1
            engine.decode(program, program.head, program.count - program.head)
        else:
            every_row = self._tap is not None and self._tap.all_rows
            for i, token in enumerate(tokens):
                last = i + 1 == len(tokens)
                self._feed(token, greedy=last and self._greedy)
                self._run(program, [token], head=last or every_row)
                self._position += 1
                if i % 16 == 0:
                    yield
        if not self._greedy:
            engine.sample(program.logits)
        self._finish()

    def _prefill_chunks(self, tokens: Sequence[int]) -> Iterator[None]:
        """All tokens through the layers; the last one's row goes where the program's head looks for it."""
        engine, program = self._engine, self._one_by_one()
        ids = np.asarray(tokens, np.int32)
        every_row = self._tap is not None and self._tap.all_rows
        for first in range(0, len(ids), engine.chunk):
            chunk = ids[first : first + engine.chunk]
            if self._tap is not None:
                self._tap.begin(chunk.tolist(), self._position + first)
            last = first + len(chunk) == len(ids)
            n_out = len(chunk) if every_row else int(last)
            self._pass["start"], self._pass["n"] = self._position + first, len(chunk)
            data = np.concatenate([self._pass.view(np.uint8), chunk.view(np.uint8)])
            driver.upload(engine.passing.address, data, self._stream)
            if self._tap is None:
                row_of_last = yield from engine.run_pass(len(chunk))
            else:
                trace = Prefill(engine, engine.arena, n=len(chunk), n_out=n_out, watched=True)
                yield from engine.layers(trace, len(chunk), self._tap)
                row_of_last = trace.last
            if last:
                head = int(program.instructions[program.head]["x"])
                program.put(head, self._position + len(ids) - 1, row_of_last, 4 * engine.n_embd)
        self._position += len(ids) - 1

    def _one_by_one(self) -> Program:
        if self._program is None:
            self._program = self._engine.plain if self._tap is None else Program(self._engine, self._tap)
        return self._program

    def _feed(self, token: int, *, greedy: bool) -> None:
        """Set the next step's token and position."""
        head = np.array([token, self._position], np.int32)
        driver.upload(self._engine.state.address, head, self._stream)
        flag = np.array([int(greedy)], np.int32)
        offset = int(STATE.fields["greedy"][1]) if STATE.fields is not None else 0
        driver.upload(self._engine.state.address + offset, flag, self._stream)

    def _run(self, program: Program, tokens: list[int], *, head: bool) -> None:
        """One token through a program, stopping at every checkpoint."""
        count = program.count if head else program.head
        if self._tap is None:
            self._engine.decode(program, 0, count)
            return
        self._tap.begin(tokens, self._position)
        done = 0
        for mark in program.marks:
            if mark.after > count:
                break
            if mark.after > done:
                self._engine.decode(program, done, mark.after - done)
                done = mark.after
            values: NDArray[Any] = np.empty((1, mark.width), np.int32 if mark.integers else np.float32)
            driver.download(values, program.value(mark.address, self._position), self._stream)
            self._stream.synchronize()
            self._tap(mark.name, mark.layer, values)
        if count > done:
            self._engine.decode(program, done, count - done)

    @property
    def depth(self) -> int:
        """See the interface; a watched step starts from a token that the tap was told."""
        return DEPTH if self._tap is None else 1

    def launch(self) -> None:
        """See the interface."""
        if self._drawn == 0 or self._drawn - self._collected >= self.depth:
            raise RuntimeError(f"launch() with {self._drawn - self._collected} tokens to collect, {self.depth} at most")
        self._room(1)
        with driver.Errors("a decode step failed"):
            if self._tap is None:
                self._engine.step(greedy=self._greedy)
            else:
                program = self._one_by_one()
                self._run(program, [self._last], head=True)
                if not self._greedy:
                    self._engine.sample(program.logits)
                self._engine.fetch()
            self._position += 1
            self._record()

    def collect(self) -> Generator[None, None, int]:
        """See the interface."""
        if self._drawn == 0:
            raise RuntimeError("collect() before prefill()")
        if self._drawn == self._collected:
            return self._last
        with driver.Errors("a decode step failed"):
            while not driver.finished(self._events[self._collected % DEPTH]):
                yield
                time.sleep(PAUSE)
        n = self._collected
        result = self._engine.results[n % RING]
        if int(result["drawn"]) != n + 1:
            raise DeviceError(f"the device reported token {int(result['drawn'])} where {n + 1} was due")
        if int(result["status"]):
            raise NonFiniteLogitsError("the model's logits contain NaN or infinity")
        self._collected = n + 1
        self._last = int(result["token"])
        return self._last

    def logits(self) -> NDArray[np.float32]:
        """See the interface."""
        program = self._program or self._engine.plain
        values = np.empty(self._engine.model.n_vocab, np.float32)
        driver.download(values, program.logits, self._stream)
        self._stream.synchronize()
        return values

    def close(self) -> None:
        """See the interface."""
        if self._closed:
            return
        self._closed = True
        self._stream.synchronize()
        self._engine.messenger.synchronize()
        self._kv.free()
        self._engine.arena.release()
        if self._program is not None and self._program is not self._engine.plain:
            self._program.free()

    def _room(self, n: int) -> None:
        if self._closed:
            raise RuntimeError("the job is closed")
        if self._position + n > self._capacity:
            raise ValueError(f"the job was opened for {self._capacity} positions, no more fit")

    def _finish(self) -> None:
        """Set what decode steps need, and bring the first token to the host."""
        offset = int(STATE.fields["greedy"][1]) if STATE.fields is not None else 0
        driver.upload(self._engine.state.address + offset, np.array([int(self._greedy)], np.int32), self._stream)
        self._engine.fetch()
        self._record()

    def _record(self) -> None:
        """Mark where the stream has brought the next result to the host."""
        self._events[self._drawn % DEPTH].record(self._engine.messenger)
        self._drawn += 1
