"""Models and contexts of llama.cpp: tokenizing, decoding, logits of every token, and taps on the graph's tensors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from m0_parity.llamacpp.abi import EVAL_CALLBACK, LOG, Batch, GgmlTensor, ReferenceUnavailableError, library

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

Floats = npt.NDArray[np.float32]
_F32, _F16, _I32 = 0, 1, 26
_NUMPY: dict[int, np.dtype[Any]] = {_F32: np.dtype(np.float32), _F16: np.dtype(np.float16), _I32: np.dtype(np.int32)}


@dataclass(frozen=True, slots=True)
class Settings:
    """How the reference computes; the defaults are its near-exact settings (no flash attention, F32 KV, no repack)."""

    flash_attention: bool = False
    kv: str = "f32"
    repack: bool = False
    threads: int = 1
    ubatch: int = 512

    def describe(self) -> dict[str, object]:
        """The settings as they go into a recording's provenance."""
        return {
            "flash_attention": self.flash_attention,
            "kv": self.kv,
            "repack": self.repack,
            "threads": self.threads,
            "ubatch": self.ubatch,
        }


@dataclass(frozen=True, slots=True)
class Tapped:
    """One tensor of the graph as it was computed: name with layer suffix, operation, values in numpy order."""

    name: str
    op: str
    values: npt.NDArray[np.generic]


Tap = Callable[[Tapped], None]
Wanted = Callable[[str, str], bool]


class Model:
    """A GGUF file loaded by llama.cpp.

    Raises:
        ReferenceUnavailableError: llama.cpp refused the file; the message carries its reason.
    """

    def __init__(self, path: Path, *, repack: bool = False, vocab_only: bool = False) -> None:
        self._lib = library()
        params = self._lib.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = repack
        params.vocab_only = vocab_only
        self.path = path
        LOG.lines.clear()
        self._handle = self._lib.llama_model_load_from_file(str(path).encode(), params)
        if not self._handle:
            raise ReferenceUnavailableError(f"llama.cpp does not load {path.name}: {LOG.reason()}")
        self._vocab = self._lib.llama_model_get_vocab(self._handle)
        self.n_vocab = int(self._lib.llama_vocab_n_tokens(self._vocab))
        self.n_layer = int(self._lib.llama_model_n_layer(self._handle))
        self.n_embd = int(self._lib.llama_model_n_embd(self._handle))

    @property
    def handle(self) -> int:
        """The llama_model pointer."""
        return int(self._handle)

    def metadata(self, key: str) -> str | None:
        """A metadata value as llama.cpp prints it, or None."""
        buffer = ctypes.create_string_buffer(4096)
        length = self._lib.llama_model_meta_val_str(self._handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if length >= 0 else None

    def tokenize(self, text: str | bytes, *, add_special: bool = False, parse_special: bool = True) -> list[int]:
        """Token ids of ``text`` (UTF-8 when given as str)."""
        raw = text.encode() if isinstance(text, str) else text
        room = len(raw) + 8
        ids = (ctypes.c_int32 * room)()
        count = self._lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, add_special, parse_special)
        if count < 0:
            room = -count
            ids = (ctypes.c_int32 * room)()
            count = self._lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, add_special, parse_special)
        return list(ids[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token."""
        buffer = ctypes.create_string_buffer(256)
        length = self._lib.llama_token_to_piece(self._vocab, token, buffer, 256, 0, special)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = self._lib.llama_token_to_piece(self._vocab, token, buffer, -length, 0, special)
        return buffer.raw[:length]

    def is_end(self, token: int) -> bool:
        """Whether ``token`` ends a generation."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def close(self) -> None:
        """Free the model; contexts of it must be closed before."""
        if self._handle:
            self._lib.llama_model_free(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class Context:
    """One sequence decoded by llama.cpp, with an optional tap on its graph.

    ``wanted(name, op)`` says which tensors ``tap`` receives; their values are copied inside the callback.
    """

    def __init__(
        self,
        model: Model,
        n_ctx: int,
        settings: Settings | None = None,
        *,
        tap: Tap | None = None,
        wanted: Wanted | None = None,
    ) -> None:
        settings = settings or Settings()
        self._lib = library()
        self._model = model
        params = self._lib.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = max(n_ctx, 512)
        params.n_ubatch = settings.ubatch
        params.n_threads = params.n_threads_batch = settings.threads
        params.flash_attn_type = int(settings.flash_attention)
        params.type_k = params.type_v = {"f32": _F32, "f16": _F16}[settings.kv]
        self._failure: BaseException | None = None
        if tap is not None:
            params.cb_eval = self._callback = EVAL_CALLBACK(self._evaluator(tap, wanted))
        self._handle = self._lib.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise ReferenceUnavailableError(f"llama.cpp opens no context on {model.path.name}: {LOG.reason()}")
        self._positions = 0

    def _evaluator(self, tap: Tap, wanted: Wanted | None) -> Callable[[int, bool, object], bool]:
        lib = self._lib

        def evaluate(address: int, ask: bool, _data: object) -> bool:
            tensor = GgmlTensor.from_address(address)
            name, op = tensor.name.decode(errors="replace"), lib.ggml_op_desc(address).decode()
            if ask:
                return wanted is None or wanted(name, op)
            try:
                if tensor.type in _NUMPY:
                    tap(Tapped(name, op, _copy(lib, address, tensor)))
            except Exception as error:  # noqa: BLE001  # nothing may unwind through C: decode raises it again
                self._failure = error
                return False
            return True

        return evaluate

    def decode(self, tokens: Sequence[int], *, every: bool = True) -> Floats:
        """Append ``tokens`` and return their logits, (n, vocabulary), or of the last one only, (1, vocabulary).

        Raises:
            ReferenceUnavailableError: llama_decode reported an error.
        """
        return self._decode(len(tokens), every=every, tokens=tokens)

    def decode_embeddings(self, values: Floats) -> Floats:
        """Append input vectors instead of tokens, (n, width), and return their logits, (n, vocabulary).

        Raises:
            ReferenceUnavailableError: llama_decode reported an error.
        """
        return self._decode(len(values), every=True, values=np.ascontiguousarray(values, np.float32))

    def _decode(
        self, n: int, *, every: bool, tokens: Sequence[int] | None = None, values: Floats | None = None
    ) -> Floats:
        keep = (ctypes.c_int8 * n)(*([1] * n if every else [0] * (n - 1) + [1]))
        zeros = [(ctypes.c_int32 * 1)(0) for _ in range(n)]
        sequence = (ctypes.POINTER(ctypes.c_int32) * n)(
            *[ctypes.cast(zero, ctypes.POINTER(ctypes.c_int32)) for zero in zeros]
        )
        batch = Batch(
            n_tokens=n,
            token=None if tokens is None else (ctypes.c_int32 * n)(*tokens),
            embd=None if values is None else values.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            pos=(ctypes.c_int32 * n)(*range(self._positions, self._positions + n)),
            n_seq_id=(ctypes.c_int32 * n)(*([1] * n)),
            seq_id=sequence,
            logits=keep,
        )
        code = self._lib.llama_decode(self._handle, batch)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if code != 0:
            raise ReferenceUnavailableError(f"llama_decode returned {code}: {LOG.reason()}")
        self._positions += n
        rows = n if every else 1
        logits = np.ctypeslib.as_array(self._lib.llama_get_logits(self._handle), (rows, self._model.n_vocab))
        return np.array(logits, dtype=np.float32)

    def greedy(self, tokens: Sequence[int], count: int) -> tuple[list[int], Floats]:
        """Decode ``tokens``, then ``count`` greedy tokens; returns them and the logits each was chosen from."""
        chosen: list[int] = []
        rows = [self.decode(tokens, every=False)[-1]]
        while True:
            chosen.append(int(rows[-1].argmax()))
            if len(chosen) == count or self._model.is_end(chosen[-1]):
                return chosen, np.stack(rows)
            rows.append(self.decode(chosen[-1:])[-1])

    def reset(self) -> None:
        """Forget the sequence: the next decode starts at position 0."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._handle), True)
        self._positions = 0

    def close(self) -> None:
        """Free the context."""
        if self._handle:
            self._lib.llama_free(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _copy(lib: ctypes.CDLL, address: int, tensor: GgmlTensor) -> npt.NDArray[np.generic]:
    """The tensor's values, (ne3, ne2, ne1, ne0) without leading ones, whatever its strides."""
    dtype = _NUMPY[tensor.type]
    size = int(lib.ggml_nbytes(address))
    buffer = np.empty(size, dtype=np.uint8)
    lib.ggml_backend_tensor_get(address, buffer.ctypes.data, 0, size)
    shape = tuple(int(n) for n in tensor.ne)[::-1]
    strides = tuple(int(n) for n in tensor.nb)[::-1]
    values = np.lib.stride_tricks.as_strided(buffer.view(dtype), shape, strides).copy()
    while values.ndim > 1 and values.shape[0] == 1:
        values = values[0]
    return values
