"""Kernels compiled ahead: beside everything else that a first start does, or in an image's build without a device.

Which kernels a model takes follows from its header, so it is loaded onto a device that keeps nothing: the same code
asks for the same kernels with the same options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from m0_worker.devices.cuda import driver
from m0_worker.devices.cuda.device import CudaDevice, product_defines
from m0_worker.devices.cuda.memory import Buffer, Pool
from m0_worker.devices.cuda.program import DEFINES
from m0_worker.devices.cuda.recording import Addresses, count_heads, decode_defines, model_defines, record
from m0_worker.devices.cuda.weights import Matrix, Part, expert_bytes
from m0_worker.engine import load_model
from m0_worker.gguf import GgmlType, GgufFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from m0_worker.devices.interface import Adapter, KvType, StoredTensor

# Shared memory a block may ask for, by compute capability (CUDA programming guide, technical specifications).
SHARED_BYTES: Final = {90: 227 << 10, 100: 227 << 10, 103: 227 << 10, 110: 227 << 10, 120: 99 << 10, 121: 99 << 10}
_MULTIPROCESSORS: Final = 132  # of H100 and H200 (SXM)
_FREE: Final = 1 << 50  # bytes: room for any model


class Wanted(NamedTuple):
    """Kernels to be compiled: the arguments of ``driver.begin``."""

    name: str
    defines: tuple[tuple[str, int], ...]
    exact: bool = False

    def begin(self, capability: int) -> Future[bytes]:
        """Compile them in the background."""
        return driver.begin(self.name, dict(self.defines), capability, exact=self.exact)


def begin(gguf: GgufFile, index: int, kv_dtype: KvType) -> None:
    """Begin to compile what a model needs before it is ready, the slowest first; the model itself asks for it later.

    Args:
        gguf: the open file; no tensor is read.
        index: of the device, which need not be initialized.
        kv_dtype: stored type of the KV cache.

    Raises:
        GgufError, ModelError, ValueError: the file holds no model that the device can run.
    """
    device = _Nowhere(*driver.chip(index))
    load_model(gguf, device, kv_dtype=kv_dtype)
    for kernels in device.needed():
        kernels.begin(device.compute_capability)


def prepare(models: Iterable[Path], capability: int) -> int:
    """Compile the kernels that these models need on a device of this compute capability (90 for 9.0).

    Returns:
        How many sets of kernels there are, those included that were already kept.

    Raises:
        ValueError: nothing is known of this compute capability.
        DeviceError: a kernel does not compile, or NVRTC cannot be loaded.
        GgufError, ModelError: a file is no model that the worker can run.
    """
    if capability not in SHARED_BYTES:
        raise ValueError(f"compute capability {capability}: give one of {', '.join(map(str, SHARED_BYTES))}")
    wanted: dict[Wanted, Future[bytes]] = {}
    for path in models:
        device = _Nowhere(capability, _MULTIPROCESSORS, SHARED_BYTES[capability])
        with GgufFile.open(path) as gguf:
            load_model(gguf, device)
            for kernels in (*device.needed(), *device.later()):
                if kernels not in wanted:
                    wanted[kernels] = kernels.begin(capability)
    for future in wanted.values():
        future.result()
    return len(wanted)


class _Nowhere(CudaDevice):
    """A device without memory, on which a model is loaded without being read and then runs nothing."""

    def __init__(self, capability: int, multiprocessors: int, shared_bytes: int) -> None:
        self.compute_capability = capability
        self.multiprocessors = multiprocessors
        self.shared_bytes = shared_bytes
        self.wgmma = capability == 90
        self.pool = Pool(None)
        self.tables = []
        self._kinds: dict[GgmlType, set[int]] = {}  # storage types, and by how many tokens a block they are multiplied
        self._model: Adapter | None = None

    def available(self) -> int:
        """Room for everything: whether a model fits is not the question here."""
        return _FREE

    def weight(self, tensors: Sequence[StoredTensor]) -> Matrix:
        """Where it would lie and how, but no memory."""
        parts = []
        for tensor in tensors:
            *lead, rows, k = tensor.shape
            tokens = 64 if lead or tensor.type == GgmlType.F32 or not self.wgmma else 128
            self._kinds.setdefault(tensor.type, set()).add(tokens)
            nbytes = expert_bytes(tensor.name, tensor.type, rows, k)
            parts.append(Part(self._buffer(), tensor.type, rows, -(-rows // 8), nbytes))
        shape = tensors[0].shape
        return Matrix(tuple(parts), shape[-1], shape[0] if len(shape) == 3 else 1)

    def vector(self, tensors: Sequence[StoredTensor]) -> Buffer:  # noqa: ARG002 - the device's signature
        """No memory either."""
        return self._buffer()

    def prepare(self, model: Adapter, n_tokens: int) -> None:  # noqa: ARG002 - the device's signature
        """Nothing is compiled by that; the model is kept for ``needed``."""
        self._model = model

    def _buffer(self) -> Buffer:
        return Buffer(self.pool, 256, 0, "weights")

    def needed(self) -> Iterator[Wanted]:
        """What must be there before the worker is ready, the slowest first.

        Raises:
            ValueError: the model has heads or rows of a size that the kernels do not have.
        """
        model: Any = self._model
        heads = count_heads(self, model)
        _, code, _ = record(self, model, heads, None, Addresses(0))
        defines = model_defines(self, model, heads, code)
        yield _wanted("decode.cu", decode_defines(defines, code))
        yield _wanted("sampling.cu", DEFINES)
        yield _wanted("prefill.cu", defines)
        yield _wanted("repack.cu", {})
        for kind, tokens in self._kinds.items():
            for n in tokens:
                yield self._product(kind, n)

    def later(self) -> Iterator[Wanted]:
        """What is compiled when the worker is ready."""
        for kind, tokens in self._kinds.items():
            if 64 not in tokens:
                yield self._product(kind, 64)

    def _product(self, kind: GgmlType, tokens: int) -> Wanted:
        wgmma = self.wgmma and kind != GgmlType.F32
        return _wanted("gemm.cu", product_defines(kind, tokens, wgmma=wgmma), exact=wgmma)


def _wanted(name: str, defines: dict[str, int], *, exact: bool = False) -> Wanted:
    return Wanted(name, tuple(sorted(defines.items())), exact)
