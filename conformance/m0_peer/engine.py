"""The model under llama.cpp: loading it, its tokens, and one job's pieces. Knows nothing of HTTP or events.

Everything but tokenizing happens on the worker's one computing thread (M0-W-1301); ctypes lets the event loop run
meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from ctypes import c_int32
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from m0_peer import llama_cpp
from m0_peer.errors import Code, JobError, LoadError
from m0_peer.gguf_header import read_header
from m0_peer.sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from m0_peer.requests import ExecuteRequest

# A long prompt goes in pieces of so many tokens, for llama.cpp does not look up while it works on one.
_CHUNK: Final = 128
# Below this, threads wait for one another longer than they compute.
_ONE_THREAD_BYTES: Final = 64 << 20
_DISABLED: Final = 0


class Watched(Protocol):
    """A job as the engine sees it."""

    reason: str

    def raise_if_stopped(self) -> None:
        """Raise the JobError that the job was stopped with, if it was."""
        ...


def memory_available() -> int:
    """Bytes that the host can still give: the CPU's stand-in for free VRAM."""
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123  # no file of anybody's
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise LoadError("/proc/meminfo does not say how much memory is available")


def _cores() -> int:
    """Threads that find a core of their own: they wait for one another by spinning, and one without stops them all."""
    return max(1, min(8, (os.cpu_count() or 1) // 2))


class Model:
    """The one model of the process (M0-W-1001), loaded once and read into memory (M0-W-1002)."""

    def __init__(self, path: Path, threads: int | None, progress: Callable[[float], bool]) -> None:
        """Validate and load.

        `progress` hears the share done, 0 to 1, and may return False to give up.

        Raises:
            LoadError: the file cannot be served, or does not fit.
        """
        self.header = header = read_header(path)
        available = memory_available()
        if header.weight_bytes > available:
            raise LoadError(
                f"the weights need {header.weight_bytes} bytes, {available} are available",
                Code.INSUFFICIENT_VRAM,
                bytes_needed=header.weight_bytes,
                bytes_available=available,
            )
        self._lib = lib = llama_cpp.library()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        params.load_mode = llama_cpp.NO_MMAP  # a file cut short on disk would end a mapped worker with SIGBUS
        params.use_extra_bufts = False  # no second, rearranged copy of the weights
        params.progress_callback = callback = llama_cpp.PROGRESS(lambda share, _data: progress(share))
        self._handle = lib.llama_model_load_from_file(str(path).encode(), params)
        del callback
        if not self._handle:
            raise LoadError(f"llama.cpp does not load the file: {llama_cpp.reason()}")
        self._vocab = lib.llama_model_get_vocab(self._handle)
        self.vocab_size: int = lib.llama_vocab_n_tokens(self._vocab)
        self.context_length: int = lib.llama_model_n_ctx_train(self._handle)
        self.weight_bytes: int = lib.llama_model_size(self._handle)
        self.cache_bytes = 0
        self._threads = threads or (1 if self.weight_bytes < _ONE_THREAD_BYTES else _cores())

    def tokenize(self, text: str, *, begin: bool) -> list[int]:
        """Token ids; `begin` adds the begin-of-sequence token where the file asks for one. May run on any thread."""
        raw = text.encode()
        room = len(raw) + 2
        ids = (c_int32 * room)()
        count = self._lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, begin, True)
        if count < 0:
            raise ValueError("llama.cpp finds no tokens for this text")
        return ids[:count]

    def piece(self, token: int) -> bytes:
        """The bytes of a token; none for control tokens."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._lib.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def pieces(self, prompt: list[int], request: ExecuteRequest, job: Watched) -> Generator[bytes, None, None]:
        """The bytes of one token after the other; ends at end of sequence, `max_tokens` or the context's end.

        Raises:
            JobError: VRAM_OOM, INTERNAL, or whatever `job` was stopped with.
        """
        # The last token is never fed back, so one more than the context holds can be told.
        limit = min(request.max_tokens, self.context_length - len(prompt) + 1)
        job.reason = "MAX_TOKENS" if limit == request.max_tokens else "CONTEXT_LENGTH"
        sampler = Sampler(request)
        with self._context(len(prompt) + limit - 1) as context:
            for start in range(0, len(prompt), _CHUNK):
                job.raise_if_stopped()
                logits = self._decode(context, prompt[start : start + _CHUNK])
            for index in range(limit):
                try:
                    token = sampler.pick(logits)
                except FloatingPointError as error:
                    raise JobError(Code.INTERNAL, str(error)) from error
                if self._lib.llama_vocab_is_eog(self._vocab, token):
                    job.reason = "EOS"
                    return
                yield self.piece(token)
                job.raise_if_stopped()
                if index + 1 < limit:
                    logits = self._decode(context, [token])

    def close(self) -> None:
        """Free the model."""
        self._lib.llama_model_free(self._handle)

    @contextlib.contextmanager
    def _context(self, positions: int) -> Iterator[int]:
        """A KV cache of its own for each job: nothing of an earlier job is there to be seen."""
        params = self._lib.llama_context_default_params()
        # Phi-3's long RoPE factors are chosen by the allocated length. They must not depend on a job's max_tokens.
        original = self.header.number(".rope.scaling.original_context_length", 0)
        if self.header.architecture == "phi3" and 0 < original < self.context_length:
            positions = max(positions, original + 1)
        params.n_ctx = max(positions, _CHUNK)
        params.n_batch = params.n_ubatch = _CHUNK
        params.n_threads = params.n_threads_batch = self._threads
        params.flash_attn_type = _DISABLED
        params.type_k = params.type_v = llama_cpp.F16  # M0-W-1201
        context = self._lib.llama_init_from_model(self._handle, params)
        if not context:
            raise JobError(Code.VRAM_OOM, f"no KV cache of {positions} tokens: {llama_cpp.reason()}")
        self.cache_bytes = self._cache_bytes(params.n_ctx)
        try:
            yield context
        finally:
            self.cache_bytes = 0
            self._lib.llama_free(context)

    def _cache_bytes(self, n_ctx: int) -> int:
        number = self.header.number
        heads = number(".attention.head_count", 1)
        width = number(".attention.key_length", number(".embedding_length", 0) // heads)
        cells = -(-n_ctx // 256) * 256  # llama.cpp rounds up
        kinds_times_f16 = 2 * 2
        return cells * number(".block_count", 0) * number(".attention.head_count_kv", heads) * width * kinds_times_f16

    def _decode(self, context: int, tokens: list[int]) -> NDArray[np.float32]:
        """Append tokens; the logits [n_vocab] after the last, valid until the next call."""
        ids = (c_int32 * len(tokens))(*tokens)
        if code := self._lib.llama_decode(context, self._lib.llama_batch_get_one(ids, len(tokens))):
            raise JobError(Code.INTERNAL, f"llama_decode returned {code}: {llama_cpp.reason()}")
        return np.ctypeslib.as_array(self._lib.llama_get_logits_ith(context, -1), (self.vocab_size,))
