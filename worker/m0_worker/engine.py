"""A GGUF file on a device becomes a model that decodes one job at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from m0_worker.adapters import ModelError, Options, adapter_for, load_adapter
from m0_worker.devices.interface import Decoding, Memory, OutOfMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_worker.adapters import ModelAdapter
    from m0_worker.devices.interface import Device, KvType, Tap
    from m0_worker.gguf import GgufFile
    from m0_worker.sampling import SamplingParams

__all__ = ["Decoding", "Memory", "Model", "ModelError", "OutOfMemory", "load_model"]

# Percentages at which progress is told (M0-W-1621).
_MARKS = (0, 25, 50, 75, 100)


class Model:
    """A loaded model, bound to its device for life (M0-W-1001, M0-W-1002).

    Attributes:
        architecture: general.architecture of the file.
        n_ctx: positions a job may have, prompt and generated tokens together.
        n_vocab: rows of the output matrix, so logits of a step.
        device: where it lives.
    """

    def __init__(self, architecture: str, n_ctx: int, adapter: ModelAdapter, device: Device) -> None:
        self.architecture = architecture
        self.n_ctx = n_ctx
        self.n_vocab = adapter.n_vocab
        self.device = device
        self._adapter = adapter

    @property
    def adapter(self) -> ModelAdapter:
        """Its forward pass, for those who lead passes through the layers themselves."""
        return self._adapter

    @property
    def memory(self) -> Memory:
        """Bytes now in use on the device."""
        return replace(self.device.memory)

    def kv_bytes(self, n_tokens: int) -> int:
        """Bytes of the KV cache of a job of ``n_tokens`` positions."""
        return self._adapter.cache.nbytes(n_tokens)

    def open(self, n_tokens: int, sampling: SamplingParams, *, seed: int, tap: Tap | None = None) -> Decoding:
        """Start a job of up to ``n_tokens`` positions; its KV cache is allocated here and freed by ``close()``.

        Raises:
            ValueError: more positions than the context has.
            OutOfMemory: the KV cache does not fit; nothing stays allocated.
        """
        if not 0 < n_tokens <= self.n_ctx:
            raise ValueError(f"a job needs 1 to {self.n_ctx} positions, not {n_tokens}")
        return self.device.open(self._adapter, n_tokens, sampling, seed=seed, tap=tap)


def load_model(
    gguf: GgufFile,
    device: Device,
    *,
    n_ctx: int | None = None,
    kv_dtype: KvType = "f16",
    progress: Callable[[int], None] | None = None,
    yarn_rounding: bool = True,
    gelu_table: bool = False,
) -> Model:
    """Bring a model to a device.

    Args:
        gguf: the open file; the mapping must stay open as long as the model.
        device: where it goes.
        n_ctx: positions a job may have; None for the model's own context length.
        kv_dtype: stored type of the KV cache; f16 is M0's (M0-W-1201), f32 is for exact comparisons.
        progress: called with 0, 25, 50, 75, 100 (M0-W-1621).
        yarn_rounding: round YaRN's correction range as llama.cpp does; False is OpenAI's gpt-oss.
        gelu_table: GELU through FP16 as llama.cpp's CPU code has it; False is exact.

    Raises:
        ModelError: the file holds no model this worker can run; says what, where and the cure.
        OutOfMemory: weights, or weights and the KV cache of a demanded n_ctx, do not fit the device.
    """
    adapter_for(gguf)
    longest = _context_length(gguf)
    if n_ctx is not None and not 0 < n_ctx <= longest:
        what = f"the context of {n_ctx} positions is outside 1 to {longest}, what the model was made for"
        raise ModelError("bad-context", what, where=str(gguf.path), cure=f"ask for at most {longest}")
    total = sum(tensor.nbytes for tensor in gguf.tensors.values())
    available = device.available()
    if total > available:
        raise OutOfMemory("weights", needed=total, available=available)

    marks = list(_MARKS)
    tell = progress or (lambda _: None)

    def on_bytes(done: int) -> None:
        while marks and marks[0] < 100 and done * 100 >= marks[0] * total:
            tell(marks.pop(0))

    on_bytes(0)
    options = Options(n_ctx or longest, kv_dtype, yarn_rounding=yarn_rounding, gelu_table=gelu_table)
    device.expect(gguf.tensors.values())
    adapter = load_adapter(gguf, device, options, on_bytes)
    if n_ctx is not None:
        needed, available = adapter.cache.nbytes(n_ctx), device.available()
        if needed > available:
            raise OutOfMemory("kv", needed=needed, available=available)
    device.prepare(adapter, options.n_ctx)
    tell(100)
    return Model(gguf.architecture, options.n_ctx, adapter, device)


def _context_length(gguf: GgufFile) -> int:
    key = f"{gguf.architecture}.context_length"
    value = gguf.metadata.get(key)
    if value is None:
        what = f"required metadata key {key} is missing"
        raise ModelError("missing-key", what, where=str(gguf.path), cure="convert the model again")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
        what = f"key {key} must be a positive integer, not {value!r:.60}"
        raise ModelError("bad-value", what, where=str(gguf.path), cure="convert the model again")
    return value
