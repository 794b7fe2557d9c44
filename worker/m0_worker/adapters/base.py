"""What the adapters share: the base class, and a loader that checks every key and tensor before it is used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from m0_worker.adapters.rope import Rope, Yarn
from m0_worker.devices.interface import StoredTensor
from m0_worker.gguf import GgufError, dequantize

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy as np
    from numpy.typing import NDArray

    from m0_worker.adapters.rope import Pairing
    from m0_worker.devices.interface import Array, CacheShape, Device, KvType, Pause, Step, Table, Vector, Weight
    from m0_worker.gguf import GgufFile


class ModelError(GgufError):
    """A readable GGUF file that does not hold a model this worker can run."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a model, where there is a choice.

    Attributes:
        n_ctx: positions a job may have at most.
        kv_dtype: stored type of the KV cache.
        yarn_rounding: round YaRN's range of pairs as llama.cpp does, or not, as OpenAI's gpt-oss code does.
        gelu_table: GELU through FP16 as llama.cpp's CPU table has it, for comparisons below 1e-6.
    """

    n_ctx: int
    kv_dtype: KvType = "f16"
    yarn_rounding: bool = True
    gelu_table: bool = False


class ModelAdapter(ABC):
    """A model of one architecture family with its weights on a device (M0-W-1213)."""

    architectures: ClassVar[tuple[str, ...]]
    cache: CacheShape
    n_vocab: int
    n_head: int

    @classmethod
    @abstractmethod
    def load(cls, load: Loader, options: Options) -> Self:
        """Bring the weights to the device.

        Raises:
            ModelError: a key or tensor is missing, has the wrong shape, or contradicts another.
            OutOfMemory: the device is too small.
        """

    @abstractmethod
    def forward(self, step: Step) -> Generator[Pause, None, Array]:
        """From the step's tokens to logits (n_out, n_vocab). Yields after every product that takes its time."""


class Loader:
    """Takes hyperparameters and tensors out of a file, checks them, and hands the tensors to a device."""

    def __init__(self, gguf: GgufFile, device: Device, progress: Callable[[int], None]) -> None:
        self.architecture = gguf.architecture
        self._gguf = gguf
        self._device = device
        self._progress = progress  # called with the bytes handed over so far
        self._loaded = 0
        self._used: set[str] = set()

    # Hyperparameters. Keys are relative to the architecture: "block_count" is "<architecture>.block_count".

    def fail(self, reason: str, what: str) -> ModelError:
        """An error about this file, for the caller to raise."""
        return ModelError(
            reason, what, where=str(self._gguf.path), cure="convert the model again with a current converter"
        )

    def count(self, key: str, default: int | None = None, *, at_most: int = 1 << 24) -> int:
        """A positive integer."""
        key = f"{self.architecture}.{key}"
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= at_most:
            raise self.fail("bad-value", f"key {key} must be an integer from 1 to {at_most}, not {value!r:.60}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive finite number."""
        key = f"{self.architecture}.{key}"
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self.fail("bad-value", f"key {key} must be a positive number, not {value!r:.60}")
        return float(value)

    def text(self, key: str, default: str) -> str:
        """A string."""
        value = self._gguf.metadata.get(f"{self.architecture}.{key}", default)
        if not isinstance(value, str):
            raise self.fail("bad-value", f"key {self.architecture}.{key} must be a string, not {value!r:.60}")
        return value

    def _value(self, key: str, default: float | None) -> object:
        value = self._gguf.metadata.get(key, default)
        if value is None:
            raise self.fail("missing-key", f"required metadata key {key} is missing")
        return value

    def heads(self, n_embd: int) -> tuple[int, int, int]:
        """Query heads, key/value heads, features of a head.

        Raises:
            ModelError: they do not divide.
        """
        n_head = self.count("attention.head_count", at_most=4096)
        n_kv_head = self.count("attention.head_count_kv", n_head, at_most=4096)
        if n_head % n_kv_head:
            raise self.fail("bad-heads", f"{n_head} heads cannot share {n_kv_head} key/value heads evenly")
        if f"{self.architecture}.attention.key_length" not in self._gguf.metadata and n_embd % n_head:
            raise self.fail("bad-heads", f"embedding length {n_embd} is no multiple of {n_head} heads")
        head_dim = self.count("attention.key_length", n_embd // n_head, at_most=4096)
        if self.count("attention.value_length", head_dim, at_most=4096) != head_dim:
            raise self.fail("bad-heads", "key and value lengths differ, which no supported architecture does")
        return n_head, n_kv_head, head_dim

    def rope(
        self,
        pairing: Pairing,
        head_dim: int,
        *,
        divisors: NDArray[np.float32] | None = None,
        rounded: bool = True,
    ) -> Rope:
        """The rotary embedding that the rope.* keys describe.

        Raises:
            ModelError: an unknown scaling type, or more rotated features than a head has.
        """
        n_rot = self.count("rope.dimension_count", head_dim, at_most=4096)
        if n_rot > head_dim or n_rot % 2:
            raise self.fail("bad-heads", f"cannot rotate {n_rot} features of heads of {head_dim}")
        kind = self.text("rope.scaling.type", "none")
        if kind not in {"none", "linear", "yarn", "longrope"}:
            raise self.fail("unsupported", f"rope.scaling.type {kind!r} is not supported")
        factor = self.number("rope.scaling.factor", 1.0) if kind in {"linear", "yarn"} else 1.0
        yarn = None
        if kind == "yarn":
            yarn = Yarn(
                self.count("rope.scaling.original_context_length", self.count("context_length")),
                self.number("rope.scaling.yarn_beta_fast", 32.0),
                self.number("rope.scaling.yarn_beta_slow", 1.0),
                rounded,
            )
        base = self.number("rope.freq_base", 10000.0)
        if base <= 1.0:
            raise self.fail("bad-value", f"rope.freq_base is {base}, it must be above 1")
        magnitude = self.number("rope.scaling.attn_factor", 1.0)
        return Rope(pairing, n_rot, base, factor, divisors, magnitude, yarn)

    # Tensors.

    def has(self, name: str) -> bool:
        """Whether the file holds a tensor."""
        return name in self._gguf.tensors

    def rows(self, name: str) -> int:
        """Rows of a required matrix, (out, in)."""
        return self._tensor(name, None).shape[0]

    def weight(self, n_in: int, *parts: tuple[str, int], n_experts: int | None = None) -> Weight:
        """Matrices (out, n_in), or (n_experts, out, n_in), stacked along ``out``; parts are (name, out)."""
        lead = () if n_experts is None else (n_experts,)
        return self._take(self._device.weight, [self._tensor(name, (*lead, n, n_in)) for name, n in parts])

    def vector(self, *parts: tuple[str, int], n_experts: int | None = None) -> Vector:
        """Vectors (n,), or (n_experts, n), joined along the last axis; parts are (name, n)."""
        lead = () if n_experts is None else (n_experts,)
        return self._take(self._device.vector, [self._tensor(name, (*lead, n)) for name, n in parts])

    def bias(self, *parts: tuple[str, int]) -> Vector | None:
        """Like :meth:`vector`, or None if the file holds none of them."""
        return self.vector(*parts) if any(self.has(name) for name, _ in parts) else None

    def host_vector(self, name: str, n: int) -> NDArray[np.float32]:
        """A small F32 tensor that the host computes with, (n,)."""
        tensor = self._tensor(name, (n,))
        self._used.add(name)
        return dequantize(tensor.data, tensor.type, tensor.shape).copy()

    def done(self) -> None:
        """Refuse a file with tensors that the adapter did not take: the model would not be the one in the file."""
        left = sorted(set(self._gguf.tensors) - self._used)
        if left:
            names = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
            raise self.fail(
                "unused-tensor", f"architecture {self.architecture!r} has {len(left)} unexpected tensors: {names}"
            )

    def rotation(self, rope: Rope) -> Table:
        """Give the rotary table to the device."""
        return self._device.rotation(rope)

    def _tensor(self, name: str, shape: tuple[int, ...] | None) -> StoredTensor:
        info = self._gguf.tensors.get(name)
        if info is None:
            raise self.fail("missing-tensor", f"tensor {name} is missing")
        if shape is None and len(info.shape) != 2:
            raise self.fail("bad-shape", f"tensor {name} has shape {info.shape}, a matrix is expected")
        if shape is not None and info.shape != shape:
            raise self.fail("bad-shape", f"tensor {name} has shape {info.shape}, {shape} is expected")
        return StoredTensor(name, info.shape, info.type, self._gguf.raw(name))

    def _take(self, keep: Callable[[list[StoredTensor]], object], tensors: list[StoredTensor]) -> object:
        kept = keep(tensors)
        for tensor in tensors:
            self._used.add(tensor.name)
            self._loaded += tensor.data.nbytes
        self._progress(self._loaded)
        return kept


def add_linear(step: Step, name: str, layer: int, h: Array, weight: Weight, bias: Vector | None, x: Array) -> Array:
    """The residual stream plus a product, x + h weight^T (+ bias), fused unless somebody watches the product."""
    d = step.device
    if not step.watches(name):
        return d.linear(h, weight, bias, residual=x)
    y = d.linear(h, weight, bias)
    step.tap(name, layer, y)
    return d.add(x, y)
