"""One job on the CPU device: prompt in chunks, then a token a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m0_worker.devices.cpu.cache import KvCache
from m0_worker.devices.cpu.step import CpuStep, Wanted
from m0_worker.sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from m0_worker.devices.cpu.account import Account
    from m0_worker.devices.interface import Adapter, Device, Tap
    from m0_worker.sampling import SamplingParams

# Prompt tokens of one pass: enough for BLAS to run at speed, few enough that a layer ends soon.
CHUNK = 128
SHORTEST = 16
# Scores of one layer's attention, all heads: three milliseconds a million on one thread.
SCORES = 3_000_000


def chunk_length(position: int, n_head: int) -> int:
    """Prompt tokens of the pass at a position: fewer, the more each of them looks back at, so that no step is long.

    The clock has no say in it: passes of other lengths could end in other last bits.
    """
    length = CHUNK
    while length > SHORTEST and n_head * length * (position + length) > SCORES:
        length //= 2
    return length


class CpuDecoding:
    """Implements :class:`m0_worker.devices.interface.Decoding`."""

    def __init__(
        self,
        device: Device,
        account: Account,
        model: Adapter,
        n_tokens: int,
        sampling: SamplingParams,
        *,
        seed: int,
        tap: Tap | None,
    ) -> None:
        self._device = device
        self._account = account
        self._model = model
        self._capacity = n_tokens
        self._sampler = Sampler(sampling, seed)
        self._tap = tap
        self._wanted = Wanted(tap)
        self._position = 0
        self._token: int | None = None  # sampled last
        self._waiting = False  # for its collection: the last sampled token, or the one of the step that is launched
        self._launched = False  # a step is to be run by collect()
        self._logits = np.empty(0, np.float32)
        self._kv_bytes = KvCache.size(model.cache, n_tokens)
        account.reserve("kv", self._kv_bytes)
        try:
            self._cache: KvCache | None = KvCache(model.cache, n_tokens)
        except MemoryError:
            account.release("kv", self._kv_bytes)
            raise

    def prefill(self, tokens: Sequence[int]) -> Iterator[None]:
        """See the interface."""
        if not tokens:
            raise ValueError("a prompt needs at least one token")
        ids = np.asarray(tokens, np.intp)
        if ids.min() < 0 or ids.max() >= self._model.n_vocab:
            raise ValueError(f"prompt token outside the vocabulary of {self._model.n_vocab}")
        every_row = self._tap is not None and self._tap.all_rows
        start = 0
        while start < len(ids):
            chunk = ids[start : start + chunk_length(self._position, self._model.n_head)]
            start += len(chunk)
            yield from self._run(chunk, len(chunk) if every_row else int(start == len(ids)))
        self._sample()
        self._waiting = True

    @property
    def depth(self) -> int:
        """See the interface: a step runs while it is collected."""
        return 1

    def launch(self) -> None:
        """See the interface."""
        if self._token is None or self._waiting:
            raise RuntimeError("launch() before the last token was collected")
        self._waiting = self._launched = True

    def collect(self) -> Generator[None, None, int]:
        """See the interface."""
        if self._token is None:
            raise RuntimeError("collect() before prefill()")
        if self._launched:
            yield from self._run(np.array([self._token], np.intp), 1)
            self._launched = False
            self._sample()
        self._waiting = False
        return self._token

    def logits(self) -> NDArray[np.float32]:
        """See the interface."""
        return self._logits.copy()

    def close(self) -> None:
        """See the interface."""
        if self._cache is not None:
            self._cache = None
            self._account.release("kv", self._kv_bytes)

    def _run(self, tokens: NDArray[np.intp], n_out: int) -> Generator[None, None, None]:
        if self._cache is None:
            raise RuntimeError("the job is closed")
        if self._position + len(tokens) > self._capacity:
            raise ValueError(f"the job was opened for {self._capacity} positions, no more fit")
        if self._tap is not None:
            self._tap.begin(tokens.tolist(), self._position)
        step = CpuStep(self._device, self._model, self._cache, self._tap, self._wanted, tokens, self._position, n_out)
        forward = self._model.forward(step)
        while True:
            try:
                next(forward)
            except StopIteration as end:
                logits = end.value
                break
            yield
        self._position += len(tokens)
        if n_out:
            self._logits = logits[-1]

    def _sample(self) -> None:
        self._token = self._sampler.next(self._logits)
