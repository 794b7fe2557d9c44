"""The CPU device: NumPy and the BLAS below it. For CI, debugging and parity; it is never resident (M0-W-1012).

Weights are copied from the mapped file in their stored blocks and expanded to float32 a tile at a time when they are
used. A matrix whose float32 form still fits ``dense_budget`` is kept expanded, which makes small models fast. Once a
model is loaded its file may be replaced, overwritten, cut short or deleted.
"""

from __future__ import annotations

import math
import platform
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from m0_worker.devices.cpu import library
from m0_worker.devices.cpu.account import Account
from m0_worker.devices.cpu.activations import gelu, gelu_table, one_plus_exp_minus
from m0_worker.devices.cpu.attention import attention
from m0_worker.devices.cpu.decoding import CpuDecoding
from m0_worker.devices.cpu.rotation import CpuRotation
from m0_worker.devices.cpu.threads import set_blas_threads
from m0_worker.devices.cpu.weights import TILE_BYTES, CpuExperts, CpuMatrix
from m0_worker.devices.interface import DeviceError
from m0_worker.gguf import dequantize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from m0_worker.devices.cpu.compiled.matrix import Kernels
    from m0_worker.devices.cpu.step import CpuStep
    from m0_worker.devices.interface import Adapter, Memory, Rotation, StoredTensor, Tap
    from m0_worker.gguf import TensorInfo
    from m0_worker.sampling import SamplingParams

    Floats = NDArray[np.float32]

DENSE_BUDGET = 64 << 20  # bytes of weights kept in float32
ONE_THREAD_BYTES = 16 << 20  # up to here one core is faster than two that must wait for one another

_LIMIT = np.float32(7)  # gpt-oss clamps gate and up
_TEN = np.float32(10)  # beyond it llama.cpp's GELU table is not asked
_ONE = np.float32(1)


class CpuDevice:
    """One CPU, all its cores. Implements :class:`m0_worker.devices.interface.Device`."""

    kind: Literal["cpu"] = "cpu"
    resident = False

    def __init__(
        self,
        index: int = 0,
        *,
        memory_limit: int | None = None,
        dense_budget: int = DENSE_BUDGET,
        threads: int | None = None,
    ) -> None:
        if index != 0:
            raise DeviceError(f"there is one CPU device, 0, and no {index}; use device 0")
        self.index = index
        self.name = platform.processor() or platform.machine()
        self._account = Account(memory_limit)
        self._dense_left = dense_budget
        self._threads = threads
        self._kernels: Kernels | None = None
        self.note: str | None = None
        self._tables: list[CpuRotation] = []
        self.half_attention = False  # for comparisons below 1e-6: see attention.attention

    # Memory.

    @property
    def memory(self) -> Memory:
        """See the interface."""
        return self._account.memory

    def available(self) -> int:
        """See the interface."""
        return self._account.available()

    def close(self) -> None:
        """Forget the accounting; the arrays go with the model."""
        self._tables.clear()
        if self._kernels is not None:
            self._kernels.close()
            self._kernels = None
        self._account.close()

    # Loading.

    def expect(self, tensors: Iterable[TensorInfo]) -> None:
        """See the interface. A model beyond the dense budget is computed by compiled kernels, where they can be had."""
        matrices = [tensor for tensor in tensors if len(tensor.shape) > 1]
        if sum(4 * math.prod(tensor.shape) for tensor in matrices) <= self._dense_left:
            return
        try:
            self._kernels = library.load({tensor.type for tensor in matrices}, self._threads)
        except library.KernelsUnavailableError as error:
            self.note = f"matrices are multiplied by NumPy, some twenty times slower than by compiled kernels: {error}"
            return
        self._dense_left = 0  # blocks are read faster than four times their size in float32
        self._account.reserve("intermediates", self._kernels.nbytes)

    def weight(self, tensors: Sequence[StoredTensor]) -> CpuMatrix | CpuExperts:
        """See the interface."""
        dense_bytes = sum(4 * int(np.prod(t.shape)) for t in tensors)
        dense = dense_bytes <= self._dense_left
        self._account.reserve("weights", dense_bytes if dense else sum(t.data.nbytes for t in tensors))
        if dense:
            self._dense_left -= dense_bytes
        else:
            # Memory of its own, as much as is accounted for: a mapped file that is cut short ends the process (SIGBUS),
            # one that is written to says something else from then on.
            tensors = [replace(tensor, data=tensor.data.copy()) for tensor in tensors]
            if self.memory.intermediates == 0:
                self._account.reserve("intermediates", 2 * TILE_BYTES)

        def matrix(parts: Sequence[StoredTensor]) -> CpuMatrix:
            compiled = None if self._kernels is None else self._kernels.take(parts)
            return compiled or CpuMatrix(parts, dense=dense)

        return matrix(tensors) if len(tensors[0].shape) == 2 else CpuExperts(tensors, matrix)

    def vector(self, tensors: Sequence[StoredTensor]) -> Floats:
        """See the interface."""
        joined = np.concatenate([dequantize(t.data, t.type, t.shape) for t in tensors], axis=-1)
        self._account.reserve("weights", joined.nbytes)
        return joined

    def rotation(self, rotation: Rotation) -> CpuRotation:
        """See the interface."""
        table = CpuRotation(rotation)
        self._tables.append(table)
        return table

    def prepare(self, model: Adapter, n_tokens: int) -> None:
        """See the interface: jobs of the CPU share nothing that is accounted for."""

    def open(
        self, model: Adapter, n_tokens: int, sampling: SamplingParams, *, seed: int, tap: Tap | None = None
    ) -> CpuDecoding:
        """See the interface."""
        for table in self._tables:
            table.grow(n_tokens)
        one = self._kernels is not None or self.memory.weights <= ONE_THREAD_BYTES
        set_blas_threads(1 if one else None)  # kernels have threads of their own
        return CpuDecoding(self, self._account, model, n_tokens, sampling, seed=seed, tap=tap)

    # Operations.

    def embed(self, table: CpuMatrix, step: CpuStep) -> Floats:
        """See the interface."""
        return table.rows(step.tokens)  # (T,) -> (T, n_embd)

    def embed_positions(self, table: CpuMatrix, step: CpuStep) -> Floats:
        """See the interface."""
        return table.rows(np.arange(step.position, step.position + step.n_tokens))  # -> (T, n_embd)

    def add(self, x: Floats, y: Floats) -> Floats:
        """See the interface."""
        return np.add(x, y)

    def rms_norm(self, x: Floats, weight: Floats, eps: float) -> Floats:
        """See the interface."""
        if len(x) == 1:
            row = x[0]
            y: Floats = x * (float(row.dot(row)) / row.size + eps) ** -0.5
            y *= weight
            return y
        mean = np.einsum("tn,tn->t", x, x) / np.float32(x.shape[1])  # (T, n) -> (T,)
        y = x * (_ONE / np.sqrt(mean + np.float32(eps)))[:, None]
        y *= weight
        return y

    def layer_norm(self, x: Floats, weight: Floats, bias: Floats, eps: float) -> Floats:
        """See the interface."""
        y: Floats = x - x.mean(axis=1, keepdims=True)
        variance = np.einsum("tn,tn->t", y, y) / np.float32(x.shape[1])  # (T, n) -> (T,)
        y *= (_ONE / np.sqrt(variance + np.float32(eps)))[:, None]
        y *= weight
        y += bias
        return y

    def linear(
        self, x: Floats, weight: CpuMatrix, bias: Floats | None = None, residual: Floats | None = None
    ) -> Floats:
        """See the interface."""
        y = weight.multiply(x)  # (T, in) -> (T, out)
        if bias is not None:
            y += bias
        if residual is not None:
            y += residual
        return y

    def split(self, x: Floats, *sizes: int) -> tuple[Floats, ...]:
        """See the interface."""
        parts, at = [], 0
        for size in sizes:
            parts.append(x[:, at : at + size])
            at += size
        return tuple(parts)

    def rope(self, x: Floats, table: CpuRotation, step: CpuStep, *, head_dim: int) -> Floats:
        """See the interface."""
        return table.rotate(x, step.position, head_dim)

    def attend(
        self,
        q: Floats,
        k: Floats,
        v: Floats,
        step: CpuStep,
        layer: int,
        *,
        scale: float,
        window: int | None = None,
        sinks: Floats | None = None,
    ) -> Floats:
        """See the interface."""
        shape = step.model.cache
        k = k.reshape(-1, shape.n_kv_head, shape.head_dim)  # (T, n_kv) -> (T, n_kv_head, head_dim)
        v = v.reshape(-1, shape.n_kv_head, shape.head_dim)
        step.cache.write(layer, step.position, k, v)
        kernels = self._kernels
        if kernels is not None and len(q) == 1 and shape.head_dim % 32 == 0 and not self.half_attention:
            stop = step.position + 1
            start = 0 if window is None else max(0, stop - window)
            return kernels.attend(q, step.cache, layer, start, stop, scale=scale, sinks=sinks)
        return attention(
            q,
            step.cache,
            layer,
            step.position,
            shape,
            scale=scale,
            window=window,
            sinks=sinks,
            halves=self.half_attention,
            share=None if kernels is None else kernels.crew.share,
        )

    def swiglu(self, gate_up: Floats) -> Floats:
        """See the interface."""
        n_ff = gate_up.shape[1] // 2
        gate, up = gate_up[:, :n_ff], gate_up[:, n_ff:]
        y = one_plus_exp_minus(gate)
        np.divide(gate, y, out=y)
        y *= up
        return y

    def swiglu_oai(self, gate_up: Floats) -> Floats:
        """See the interface."""
        n_ff = gate_up.shape[1] // 2
        gate, up = (
            np.minimum(gate_up[:, :n_ff], np.float32(7)),
            np.clip(gate_up[:, n_ff:], np.float32(-7), np.float32(7)),
        )
        y = one_plus_exp_minus(gate * np.float32(1.702))
        np.divide(gate, y, out=y)
        y *= up + _ONE
        return y

    def gelu(self, x: Floats, *, table: bool = False) -> Floats:
        """See the interface."""
        if not table:
            return gelu(x)
        y: Floats = gelu_table()[np.clip(x, -_TEN, _TEN).astype(np.float16).view(np.uint16)]
        return np.where(x <= -_TEN, np.float32(0), np.where(x >= _TEN, x, y))

    def top_experts(self, router_logits: Floats, k: int) -> tuple[NDArray[np.int32], Floats]:
        """See the interface."""
        ids = np.argsort(-router_logits, axis=1, kind="stable")[:, :k]  # (T, E) -> (T, k)
        chosen = np.take_along_axis(router_logits, ids, axis=1)  # (T, E) -> (T, k)
        weights = np.exp(chosen - chosen[:, :1])
        weights /= weights.sum(axis=1, keepdims=True)
        return ids.astype(np.int32), weights

    def experts(
        self,
        x: Floats,
        ids: NDArray[np.int32],
        weights: Floats,
        gate_up: CpuExperts,
        gate_up_bias: Floats,
        down: CpuExperts,
        down_bias: Floats,
        residual: Floats | None = None,
    ) -> Floats:
        """See the interface."""
        y = np.zeros_like(x)
        for e in np.unique(ids):
            rows, place = np.nonzero(ids == e)  # tokens that chose expert e, and where in their list: (n,), (n,)
            h = gate_up[e].multiply(x[rows])  # (n, n_embd) -> (n, 2 n_ff)
            h += gate_up_bias[e]
            h = down[e].multiply(self.swiglu_oai(h))  # (n, n_ff) -> (n, n_embd)
            h += down_bias[e]
            y[rows] += h * weights[rows, place, None]
        if residual is not None:
            y += residual
        return y

    def last_rows(self, x: Floats, step: CpuStep) -> Floats:
        """See the interface."""
        return x[len(x) - step.n_out :]  # (T, n_embd) -> (n_out, n_embd)
