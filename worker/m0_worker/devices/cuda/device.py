"""The CUDA device: memory, weights, and operations that are recorded and fused instead of run one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from m0_worker.devices.cuda import driver
from m0_worker.devices.cuda.decoding import CudaDecoding
from m0_worker.devices.cuda.engine import Engine
from m0_worker.devices.cuda.memory import Pool
from m0_worker.devices.cuda.program import N_TABLES, Act, Norm
from m0_worker.devices.cuda.rotation import CudaRotation
from m0_worker.devices.cuda.weights import Matrix, WeightLoader
from m0_worker.devices.cuda_capability import require_hopper
from m0_worker.gguf import GgmlType
from m0_worker.gguf.dequantize import dequantize
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from m0_worker.devices.cuda.decoding import CudaStep
    from m0_worker.devices.cuda.memory import Buffer
    from m0_worker.devices.cuda.recorder import Node
    from m0_worker.devices.interface import Adapter, Memory, Rotation, StoredTensor, Tap
    from m0_worker.gguf import TensorInfo


class CudaDevice:
    """One NVIDIA device. Implements :class:`m0_worker.devices.interface.Device`."""

    kind: Literal["cuda"] = "cuda"
    note: str | None = None

    def __init__(self, index: int = 0, *, memory_limit: int | None = None) -> None:
        properties = driver.use(index)
        self.index = index
        name = properties["name"]
        self.name = name.decode() if isinstance(name, bytes) else str(name)
        self.compute_capability = 10 * int(properties["major"]) + int(properties["minor"])
        require_hopper(self.compute_capability, index=index, name=self.name)
        self.multiprocessors = int(properties["multiProcessorCount"])
        self.shared_bytes = int(properties["sharedMemPerBlockOptin"])
        self.pool = Pool(memory_limit)
        self.stream = driver.new_stream()
        self.tables: list[CudaRotation] = []
        self.resident = True
        self._loader: WeightLoader | None = WeightLoader(self.pool, self.stream)
        self._engines: dict[int, Engine] = {}
        self._vectors: set[Buffer] = set()
        self._products: dict[tuple[GgmlType, int], driver.Kernels] = {}
        # Hopper's own matrix instructions, which read one operand from shared memory.
        self.wgmma = self.compute_capability == 90

    @property
    def memory(self) -> Memory:
        """Bytes in use."""
        return self.pool.memory

    def available(self) -> int:
        """Bytes that can still be allocated."""
        return self.pool.available()

    def check_residency(self) -> bool:
        """Ask the driver where the weights are; ``resident`` keeps the answer (M0-W-1012)."""
        with driver.Errors("the residency check failed"):
            self.resident = self.pool.resident()
        return self.resident

    def close(self) -> None:
        """Free everything (M0-W-1401)."""
        for kernels in self._products.values():
            kernels.forget()
        self.stream.synchronize()
        self._engines.clear()
        self.pool.close()

    def products(self, kind: GgmlType, tokens: int) -> driver.Kernels:
        """The prompt's matrix products of one storage type by 64 or 128 tokens a block; the first call compiles."""
        wgmma = self.wgmma and kind != GgmlType.F32
        tokens = tokens if wgmma else 64
        kernels = self._products.get((kind, tokens))
        if kernels is None:
            defines = product_defines(kind, tokens, wgmma=wgmma)
            kernels = self._products[kind, tokens] = driver.Kernels("gemm.cu", defines, exact=wgmma)
        return kernels

    @property
    def narrow(self) -> bool:
        """Whether products of up to 64 tokens have blocks of their own: they compile when the worker is ready."""
        return all(
            (kind, 64) in self._products and self._products[kind, 64].compiled for kind, _ in list(self._products)
        )

    # Loading.

    def expect(self, tensors: Iterable[TensorInfo]) -> None:
        """See the interface: kernels are compiled as their first matrix comes."""

    def weight(self, tensors: Sequence[StoredTensor]) -> Matrix:
        """See the interface."""
        if self._loader is None:
            self._loader = WeightLoader(self.pool, self.stream)
        for tensor in tensors:  # compiled while weights are copied; an expert has few tokens
            self.products(tensor.type, 64 if len(tensor.shape) == 3 else 128)
        with driver.Errors("copying weights to the device failed"):
            return self._loader.matrix(tensors)

    def vector(self, tensors: Sequence[StoredTensor]) -> Buffer:
        """See the interface."""
        joined = np.ascontiguousarray(
            np.concatenate([dequantize(t.data, t.type, t.shape) for t in tensors], axis=-1), np.float32
        )
        with driver.Errors("copying parameters to the device failed"):
            buffer = self.pool.allocate(joined.nbytes, "weights")
            driver.upload(buffer.address, joined)
        return buffer

    def rotation(self, rotation: Rotation) -> CudaRotation:
        """See the interface."""
        if len(self.tables) == N_TABLES:
            raise ValueError(f"a device keeps {N_TABLES} rotary tables at most")
        table = CudaRotation(rotation, len(self.tables), self.pool)
        self.tables.append(table)
        return table

    def _engine(self, model: Adapter) -> Engine:
        if self._loader is not None:
            self._loader.done()
            self._loader = None
        engine = self._engines.get(id(model))
        if engine is None:
            engine = self._engines[id(model)] = Engine(self, model)
        return engine

    def prepare(self, model: Adapter, n_tokens: int) -> None:
        """See the interface. All kernels are loaded; one short job of each kind captures graphs."""
        with driver.Errors("preparing the device failed"):
            self._engine(model)
            needed = list(self._products.items())
            for _, kernels in needed:
                kernels.load()
            for table in self.tables:
                table.grow(n_tokens, self.stream)
            for sampling in (SamplingParams(temperature=0.0), SamplingParams()):
                job = CudaDecoding(self._engine(model), min(n_tokens, 8), sampling, seed=0, tap=None)
                try:
                    for _ in job.prefill([0] * min(n_tokens - 1, 4) or [0]):
                        pass
                    for _ in job.collect():
                        pass
                    if n_tokens > 5:
                        job.launch()
                    self.stream.synchronize()
                finally:
                    job.close()
        for kind, _ in dict(needed):
            self.products(kind, 64)  # short prompts are a little faster with these, and nobody waits for them

    def open(
        self, model: Adapter, n_tokens: int, sampling: SamplingParams, *, seed: int, tap: Tap | None = None
    ) -> CudaDecoding:
        """See the interface."""
        engine = self._engine(model)
        with driver.Errors("opening a job failed"):
            return CudaDecoding(engine, n_tokens, sampling, seed=seed, tap=tap)

    # Operations: each node knows the pass that it belongs to, and the pass does the work.

    def embed(self, table: Matrix, step: CudaStep) -> Node:
        """See the interface."""
        return step.trace.embed(table)

    def embed_positions(self, table: Matrix, step: CudaStep) -> Node:
        """See the interface."""
        return step.trace.embed_positions(table)

    def add(self, x: Node, y: Node) -> Node:
        """See the interface."""
        return x.trace.add(x, y)

    def rms_norm(self, x: Node, weight: Buffer, eps: float) -> Node:
        """See the interface."""
        return x.trace.norm(x, Norm.RMS, weight.address, 0, eps)

    def layer_norm(self, x: Node, weight: Buffer, bias: Buffer, eps: float) -> Node:
        """See the interface."""
        return x.trace.norm(x, Norm.LAYER, weight.address, bias.address, eps)

    def linear(self, x: Node, weight: Matrix, bias: Buffer | None = None, residual: Node | None = None) -> Node:
        """See the interface."""
        return x.trace.linear(x, weight, _address(bias), residual)

    def split(self, x: Node, *sizes: int) -> tuple[Node, ...]:
        """See the interface."""
        return x.trace.split(x, sizes)

    def rope(self, x: Node, table: CudaRotation, step: CudaStep, *, head_dim: int) -> Node:  # noqa: ARG002 - the interface's signature
        """See the interface."""
        return x.trace.rope(x, table)

    def attend(
        self,
        q: Node,
        k: Node,
        v: Node,
        step: CudaStep,
        layer: int,
        *,
        scale: float,
        window: int | None = None,
        sinks: Buffer | None = None,
    ) -> Node:
        """See the interface."""
        return step.trace.attend(q, k, v, layer, scale=scale, window=window, sinks=_address(sinks))

    def swiglu(self, gate_up: Node) -> Node:
        """See the interface."""
        return gate_up.trace.activate(gate_up, Act.SWIGLU)

    def swiglu_oai(self, gate_up: Node) -> Node:
        """See the interface."""
        return gate_up.trace.activate(gate_up, Act.SWIGLU_OAI)

    def gelu(self, x: Node, *, table: bool = False) -> Node:
        """See the interface."""
        if table:
            raise ValueError("llama.cpp's GELU table belongs to its CPU code; the CUDA device computes GELU")
        return x.trace.activate(x, Act.GELU)

    def top_experts(self, router_logits: Node, k: int) -> tuple[Node, Node]:
        """See the interface."""
        return router_logits.trace.top_experts(router_logits, k)

    def experts(
        self,
        x: Node,
        ids: Node,
        weights: Node,  # noqa: ARG002 - travels with the ids
        gate_up: Matrix,
        gate_up_bias: Buffer,
        down: Matrix,
        down_bias: Buffer,
        residual: Node | None = None,
    ) -> Node:
        """See the interface."""
        return x.trace.experts(x, ids, gate_up, _address(gate_up_bias), down, _address(down_bias), residual)

    def last_rows(self, x: Node, step: CudaStep) -> Node:
        """See the interface."""
        return step.trace.last_rows(x)


def product_defines(kind: GgmlType, tokens: int, *, wgmma: bool) -> dict[str, int]:
    """What prompt products of a storage type are compiled with, by tokens of a block."""
    return {"STORED": int(kind), "TOKENS": tokens, "HOPPER": int(wgmma)}


def _address(buffer: Buffer | None) -> int:
    return 0 if buffer is None else buffer.address


def describe(device: CudaDevice) -> dict[str, Any]:
    """What /health and reports say about the device."""
    return {
        "name": device.name,
        "sm": device.compute_capability,
        "cuda_runtime_version": driver.runtime_version(),
        "multiprocessors": device.multiprocessors,
    }
