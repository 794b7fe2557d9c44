"""Defects of model files of every form that must load: storage types, containers, architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur import launching
from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.launching import Launched
from m0_conformance.saboteur.lie import lie

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Answer, Request


class PerturbedFile(Launched):
    """Serves a perturbed copy, which is how the file looks to a reader with the fault."""

    files: ClassVar[tuple[str, ...]] = ()

    async def arguments(self, argv: list[str]) -> list[str]:
        argv = await super().arguments(argv)
        if self.model.stem not in self.files:
            return argv
        return launching.replaced(argv, "--model", self.other_file(self.write))

    def write(self, path: Path) -> None:
        """Write what the reader sees."""
        rewrite(self.model, path, self.tensor)

    def tensor(self, name: str, kind: str, raw: Any) -> Any:
        """The bytes of one tensor as the reader sees them."""
        return raw


on_tensor = lie("tensor", PerturbedFile)


def rewrite(source: Path, path: Path, change: Callable[[str, str, Any], Any]) -> None:
    """Write a model file again with changed tensors."""
    import gguf  # noqa: PLC0415 - NumPy, for the few launches that need it
    from m0_models import container  # noqa: PLC0415 - needed by this defect alone
    from m0_models.corrupt import read_back  # noqa: PLC0415 - needed by this defect alone

    architecture = str(gguf.GGUFReader(source).fields["general.architecture"].contents())
    metadata, tensors = read_back(source)
    changed = [container.Tensor(t.name, t.type, change(t.name, t.type, t.raw)) for t in tensors]
    container.write(path, architecture, metadata, changed, complete=False)


def swapped_nibbles(raw: Any, block: int, scale: int) -> Any:
    """Blocks of so many bytes with their 4-bit values in the wrong order, scales untouched."""
    changed = raw.reshape(-1, block).copy()
    values = changed[:, scale:]
    changed[:, scale:] = (values >> 4) | (values << 4)
    return changed.reshape(raw.shape)


@on_tensor("M0-W-1201/q4-0-runs", source="known defect 43: bit layouts wrong", files=("script",))
def q4_0_nibbles_swapped(kind: str, raw: Any) -> Any:
    """The two halves of every Q4_0 byte are taken in the wrong order."""
    return swapped_nibbles(raw, 18, 2) if kind == "Q4_0" else raw


@on_tensor("M0-W-1201/mxfp4-runs", source="known defect 43: bit layouts wrong", files=("script-mxfp4",))
def mxfp4_nibbles_swapped(kind: str, raw: Any) -> Any:
    """The two halves of every MXFP4 byte are taken in the wrong order."""
    return swapped_nibbles(raw, 17, 1) if kind == "MXFP4" else raw


@on_tensor("M0-W-1214/attention-biases", source="known defect 41: biases null", files=("bias",))
def attention_biases_dropped(name: str, raw: Any) -> Any:
    """Query, key and value biases are left out."""
    return raw * 0 if name.endswith("attn_v.bias") else raw


class WrongPairing(PerturbedFile):
    name = "rope-wrong-pairs"
    about = "In qwen2 files the rotary embedding turns neighbouring dimensions."
    kills = ("M0-W-1430/positions",)
    source = "known defect 46: RoPE pairing wrong"
    files = ("position",)

    def write(self, path: Path) -> None:
        from m0_models.probes import position  # noqa: PLC0415 - needed by this defect alone

        position(path, quant="Q4_0", pairing="llama")


@on_tensor("M0-W-1430/positions", source="known defect 46: position counter always 0", files=("position-llama",))
def position_counter_stuck(name: str, raw: Any) -> Any:
    """The position counter never advances."""
    return raw * 0 if name.endswith(("attn_q.weight", "attn_k.weight")) else raw


class ForgetsFarBack(Launched):
    name = "context-window-of-eight"
    about = "Attention sees the last eight tokens of the prompt."
    kills = ("M0-W-1430/attends-to-context",)
    source = "known defect 48: static kernel limits"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        body = request.json()
        if self.model.stem != "memory" or request.path != "/execute":
            return request
        return request.with_json({**body, "prompt": str(body.get("prompt"))[-8:]})


class HealthConstant(Defect):
    """One field of /health is a constant."""

    field: ClassVar[str] = ""
    value: ClassVar[Any] = None

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, self.field: self.value}
