"""One file per architecture family, all of the same skeleton, so that a diff of two is the difference of two models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_worker.adapters.base import Loader, ModelAdapter, ModelError, Options
from m0_worker.adapters.gpt2 import Gpt2
from m0_worker.adapters.gpt_oss import GptOss
from m0_worker.adapters.llama import Llama
from m0_worker.adapters.phi3 import Phi3

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_worker.devices.interface import Device
    from m0_worker.gguf import GgufFile

FAMILIES: tuple[type[ModelAdapter], ...] = (Llama, Phi3, Gpt2, GptOss)
ADAPTERS = {architecture: family for family in FAMILIES for architecture in family.architectures}

__all__ = ["ADAPTERS", "ModelAdapter", "ModelError", "Options", "adapter_for", "load_adapter", "refuse_architecture"]


def adapter_for(gguf: GgufFile) -> type[ModelAdapter]:
    """The adapter class of a file's general.architecture (M0-W-1212).

    Raises:
        ModelError: not supported; names what is.
    """
    refuse_architecture(gguf.architecture, str(gguf.path))
    return ADAPTERS[gguf.architecture]


def refuse_architecture(name: str, where: str) -> None:
    """Refuse an architecture without an adapter.

    Raises:
        ModelError: not supported; names what is.
    """
    if name not in ADAPTERS:
        cure = f"use a model of one of: {', '.join(sorted(ADAPTERS))}"
        raise ModelError("unknown-architecture", f"architecture {name!r} is not supported", where=where, cure=cure)


def load_adapter(gguf: GgufFile, device: Device, options: Options, progress: Callable[[int], None]) -> ModelAdapter:
    """Load a model's weights onto a device.

    Args:
        gguf: the open file.
        device: where the weights go.
        options: context length, cache type, numerics.
        progress: called with the bytes handed over so far.

    Raises:
        ModelError: unknown architecture, or keys and tensors that do not make a model.
        OutOfMemory: the device is too small.
    """
    family = adapter_for(gguf)
    loader = Loader(gguf, device, progress)
    model = family.load(loader, options)
    loader.done()
    return model
