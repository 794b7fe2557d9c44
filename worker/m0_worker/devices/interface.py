"""What a device must do for an adapter and for the engine.

An adapter writes a model down as operations on opaque arrays; a device carries them out. The operations are coarse and
say what is meant, so that a device may do them one by one (NumPy) or defer and fuse them (a norm into the product
that follows, a residual into the product's epilogue) and capture a whole decode step as one graph. For that an adapter
never looks at a value, and its operations depend on nothing but the number of tokens in the step: a device may run a
one-token forward pass once and replay it for every later position.

Shapes: T tokens in the step, activations are (T, features) in float32. Weights are (out, in), experts (E, out, in).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from m0_worker.errors import DeviceError as DeviceError  # noqa: PLC0414 - what a device raises, re-exported
from m0_worker.errors import OutOfMemory as OutOfMemory  # noqa: PLC0414 - the same

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from m0_worker.gguf import GgmlType, TensorInfo
    from m0_worker.sampling import SamplingParams

# Handles whose inside only the device that made them knows.
Array: TypeAlias = Any  # activations, (T, features) float32
Weight: TypeAlias = Any  # one or more stored matrices stacked along their rows
Vector: TypeAlias = Any  # float32 parameters: norm weights, biases, sinks
OwnStep: TypeAlias = Any  # the Step that the same device made
Table: TypeAlias = Any  # cosines and sines of a rotary embedding

KvType: TypeAlias = Literal["f16", "f32"]


class Pause(Enum):
    """Where a forward pass may be interrupted: a device that runs operations at once may let others work here."""

    OPERATION = "between two operations of a layer"
    LAYER = "after a layer"


@dataclass(slots=True)
class Memory:
    """Bytes now in use on the device, by purpose (M0-W-1011)."""

    weights: int = 0
    kv: int = 0
    intermediates: int = 0

    @property
    def total(self) -> int:
        """All bytes in use."""
        return self.weights + self.kv + self.intermediates


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as it lies in the file.

    Attributes:
        name: as in the file.
        shape: NumPy order, (out, in) or (E, out, in) or (n,).
        type: storage type.
        data: its bytes, a view on the mapped file; a device copies what it keeps.
    """

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The KV cache of a model: each layer holds n_kv_head x head_dim keys and as many values a position."""

    n_layer: int
    n_kv_head: int
    head_dim: int
    dtype: KvType

    def nbytes(self, n_tokens: int) -> int:
        """Bytes of keys and values for ``n_tokens`` positions."""
        return 2 * self.n_layer * n_tokens * self.n_kv_head * self.head_dim * (2 if self.dtype == "f16" else 4)


class Rotation(Protocol):
    """A rotary position embedding, computed on the host once and kept by the device as a table.

    Attributes:
        pairing: ``norm`` rotates features (2j, 2j+1) of a head, ``neox`` rotates (j, j + n_rot/2).
        n_rot: rotated features of each head, even; those above stay as they are.
    """

    @property
    def pairing(self) -> Literal["norm", "neox"]:
        """Which features form a pair."""
        ...

    @property
    def n_rot(self) -> int:
        """Rotated features of a head."""
        ...

    def table(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cosines and sines for positions start to stop - 1, each (stop - start, n_rot / 2), magnitude included."""
        ...


class Tap(Protocol):
    """Sees intermediate values by llama.cpp's checkpoint names; must copy what it keeps before it returns."""

    @property
    def all_rows(self) -> bool:
        """Logits of every prompt token, and not of the last only; result_norm and result_output then have T rows."""
        ...

    def wants(self, name: str) -> bool:
        """Whether values under this name are asked for; unasked ones are never brought to the host."""
        ...

    def __call__(self, name: str, layer: int, array: NDArray[np.float32]) -> None:
        """One checkpoint: ``layer`` is -1 outside the layers, rows are the step's tokens in order."""
        ...

    def begin(self, tokens: Sequence[int], position: int) -> None:
        """A forward pass starts: its input tokens, and the absolute position of the first."""
        ...


class Step(Protocol):
    """One forward pass over T tokens of a job: tokens, positions and cache are the device's business.

    Attributes:
        device: carries out the operations.
        n_tokens: T; 1 in decode.
    """

    @property
    def device(self) -> Device:
        """Carries out the operations."""
        ...

    @property
    def n_tokens(self) -> int:
        """T."""
        ...

    def tap(self, name: str, layer: int, array: Array) -> None:
        """Show a checkpoint to whoever asked for it; nothing at all otherwise."""
        ...

    def watches(self, name: str) -> bool:
        """Whether somebody asked for this checkpoint, so that a fused operation must be taken apart."""
        ...


class Adapter(Protocol):
    """A model of one architecture with its weights on a device."""

    @property
    def cache(self) -> CacheShape:
        """The KV cache that a job of this model needs."""
        ...

    @property
    def n_vocab(self) -> int:
        """Rows of the output matrix."""
        ...

    @property
    def n_head(self) -> int:
        """Query heads."""
        ...

    def forward(self, step: Step) -> Generator[Pause, None, Array]:
        """From tokens to the logits of the step's output rows, (n_out, n_vocab). Yields between operations."""
        ...


class Decoding(Protocol):
    """One job on the device: its KV cache, sampler state and position. See :meth:`Device.open`."""

    def prefill(self, tokens: Sequence[int]) -> Iterator[None]:
        """Run the prompt; yields between chunks and layers. Afterwards the first sampled token is pending."""
        ...

    @property
    def depth(self) -> int:
        """Tokens that may be launched and not yet collected: a device of 2 has its next step lined up at any time."""
        ...

    def launch(self) -> None:
        """Line up one more decode step, from the last token sampled or being sampled; returns at once.

        Raises:
            RuntimeError: `depth` tokens wait to be collected.
        """
        ...

    def collect(self) -> Generator[None, None, int]:
        """Wait for the oldest token that was not collected, and return it; yields while it is not ready."""
        ...

    def logits(self) -> NDArray[np.float32]:
        """Logits that the last token was sampled from, (n_vocab,), a copy on the host; to be asked before a launch."""
        ...

    def close(self) -> None:
        """Free the KV cache. Safe to call twice, and in the middle of a step."""
        ...


class Device(Protocol):
    """A processor with its memory.

    Attributes:
        kind: ``cuda`` or ``cpu``.
        index: among the devices of its kind.
        name: the product's name, for the log.
        resident: whether weights live in the memory of an accelerator (M0-W-1012); never on a CPU.
        memory: bytes in use by purpose.
        note: what its user should know of how it runs the model, for the log; mostly None.
    """

    @property
    def kind(self) -> Literal["cuda", "cpu"]:
        """The kind of processor."""
        ...

    @property
    def index(self) -> int:
        """Number among the devices of its kind."""
        ...

    @property
    def name(self) -> str:
        """The product's name."""
        ...

    @property
    def resident(self) -> bool:
        """Weights live in an accelerator's memory."""
        ...

    @property
    def memory(self) -> Memory:
        """Bytes in use."""
        ...

    @property
    def note(self) -> str | None:
        """What its user should know."""
        ...

    def available(self) -> int:
        """Bytes that can still be allocated."""
        ...

    def close(self) -> None:
        """Free everything (M0-W-1401)."""
        ...

    # Loading. Raises OutOfMemory.

    def expect(self, tensors: Iterable[TensorInfo]) -> None:
        """A model of these tensors is about to be loaded: a device may begin what it needs for them."""
        ...

    def weight(self, tensors: Sequence[StoredTensor]) -> Weight:
        """Matrices that share their input, stacked along ``out``; parts may differ in storage type.

        (out_1, in) ... (out_n, in) become (sum of out, in); experts (E, out_i, in) become (E, sum of out, in).
        Weights keep their stored blocks (M0-W-1201) unless the device says otherwise.
        """
        ...

    def vector(self, tensors: Sequence[StoredTensor]) -> Vector:
        """Float32 parameters joined along their last axis: (n_1,) ... or (E, n_1) ..."""
        ...

    def rotation(self, rotation: Rotation) -> Table:
        """Keep a rotary table; it grows with the longest job opened."""
        ...

    def prepare(self, model: Adapter, n_tokens: int) -> None:
        """Make all that jobs of up to ``n_tokens`` positions share, so that a job leaves nothing behind.

        Raises:
            OutOfMemory: no room for it.
        """
        ...

    def open(
        self, model: Adapter, n_tokens: int, sampling: SamplingParams, *, seed: int, tap: Tap | None = None
    ) -> Decoding:
        """A job of up to ``n_tokens`` positions.

        Raises:
            OutOfMemory: the KV cache does not fit; nothing stays allocated.
        """
        ...

    # Operations.

    def embed(self, table: Weight, step: OwnStep) -> Array:
        """Rows of the token embedding: (n_vocab, n_embd) by T tokens -> (T, n_embd)."""
        ...

    def embed_positions(self, table: Weight, step: OwnStep) -> Array:
        """Rows of the learned position embedding at the step's positions: (n_ctx, n_embd) -> (T, n_embd)."""
        ...

    def add(self, x: Array, y: Array) -> Array:
        """X + y."""
        ...

    def rms_norm(self, x: Array, weight: Vector, eps: float) -> Array:
        """X * weight / sqrt(mean(x^2) + eps) by row (Zhang and Sennrich 2019)."""
        ...

    def layer_norm(self, x: Array, weight: Vector, bias: Vector, eps: float) -> Array:
        """(x - mean) / sqrt(variance + eps) * weight + bias by row (M0-W-1432)."""
        ...

    def linear(self, x: Array, weight: Weight, bias: Vector | None = None, residual: Array | None = None) -> Array:
        """X weight^T (+ bias) (+ residual): (T, in) -> (T, out). Accumulates in float32 or better."""
        ...

    def split(self, x: Array, *sizes: int) -> tuple[Array, ...]:
        """Neighbouring columns, as views: (T, sum of sizes) -> (T, sizes[0]), (T, sizes[1]), ..."""
        ...

    def rope(self, x: Array, table: Table, step: OwnStep, *, head_dim: int) -> Array:
        """Rotate every head of x by its token's position: (T, heads * head_dim), same shape (Su et al. 2021)."""
        ...

    def attend(
        self,
        q: Array,
        k: Array,
        v: Array,
        step: OwnStep,
        layer: int,
        *,
        scale: float,
        window: int | None = None,
        sinks: Vector | None = None,
    ) -> Array:
        """Write k and v to the layer's cache, then causal attention over it.

        q is (T, n_head * head_dim); k and v are (T, n_kv_head * head_dim); head h reads kv head
        h // (n_head / n_kv_head). ``window``: a token sees itself and the window - 1 before it. ``sinks``: (n_head,)
        logits that join the softmax's denominator and carry no value. Returns (T, n_head * head_dim).
        """
        ...

    def swiglu(self, gate_up: Array) -> Array:
        """silu(gate) * up for stacked columns [gate, up]: (T, 2 n_ff) -> (T, n_ff) (Shazeer 2020)."""
        ...

    def swiglu_oai(self, gate_up: Array) -> Array:
        """G sigmoid(1.702 g) (u + 1), g = min(gate, 7), u = clamp(up, -7, 7): (T, 2 n_ff) -> (T, n_ff) (gpt-oss)."""
        ...

    def gelu(self, x: Array, *, table: bool = False) -> Array:
        """GELU by its tanh approximation (M0-W-1433).

        ``table`` rounds input and output to FP16 for abs(x) < 10, as llama.cpp's CPU table does; a device may refuse.
        """
        ...

    def top_experts(self, router_logits: Array, k: int) -> tuple[Array, Array]:
        """The k largest of E logits and their softmax: (T, E) -> ids (T, k) int32, largest first, weights (T, k)."""
        ...

    def experts(
        self,
        x: Array,
        ids: Array,
        weights: Array,
        gate_up: Weight,
        gate_up_bias: Vector,
        down: Weight,
        down_bias: Vector,
        residual: Array | None = None,
    ) -> Array:
        """Weighted sum of the chosen experts, down(swiglu_oai(gate_up x + b)) + b each (+ residual): (T, n_embd).

        ``gate_up`` is (E, 2 n_ff, n_embd), ``down`` (E, n_embd, n_ff), biases (E, 2 n_ff) and (E, n_embd).
        """
        ...

    def last_rows(self, x: Array, step: OwnStep) -> Array:
        """The rows whose logits are wanted: (T, n_embd) -> (n_out, n_embd); n_out is 0, 1 or T."""
        ...
