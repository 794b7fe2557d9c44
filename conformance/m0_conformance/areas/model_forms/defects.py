"""Defects of model files of every form that must load: storage types, containers, architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur import launching
from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.launching import Launched, Refuses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Answer, Request


class RefusesKQuants(Refuses):
    name = "q4-k-m-refused"
    about = "Files of the recipe Q4_K_M are refused."
    kills = ("M0-W-1201/q4-k-m-runs",)
    source = "known defect 43: K-quants not understood"
    files, reason = ("script-q4-k-m",), "tensor blk.0.ffn_down.weight has the unsupported type Q6_K"


class RefusesAlignment(Refuses):
    name = "alignment-constant"
    about = "Only an alignment of 32 is known."
    kills = ("M0-W-1211/alignment",)
    source = "known defect 50: alignment constant 32"
    files, reason = ("corrupt-alignment-64",), "tensor data is not where it should be"


class RefusesLlama(Refuses):
    name = "llama-refused"
    about = "Files of architecture llama are refused."
    kills = ("M0-W-1212/llama",)
    source = "known defect 50: architecture strings rejected"
    files, reason = ("script-llama",), "architecture 'llama' is not supported"


class RefusesGpt2(Refuses):
    name = "gpt2-refused"
    about = "Files of architecture gpt2 are refused."
    kills = ("M0-W-1212/gpt2",)
    source = "known defect 50: architecture strings rejected"
    files, reason = ("miniature-gpt2-q4_0",), "architecture 'gpt2' is not supported"


class RefusesTied(Refuses):
    name = "tied-output-refused"
    about = "A file without an output matrix is refused."
    kills = ("M0-W-1214/tied-output",)
    source = "a list of required tensors taken from one model"
    files, reason = ("miniature-qwen2-tied",), "tensor output.weight is missing"


class RefusesGroupedHeads(Refuses):
    name = "qwen2-grouped-heads-refused"
    about = "Files of architecture qwen2 with grouped heads are refused."
    kills = ("M0-W-1230/qwen2-form",)
    source = "known defect 50: architecture strings rejected"
    files, reason = ("memory",), "head_count_kv differs from head_count"


class RefusesPhi3(Refuses):
    name = "phi3-refused"
    about = "Files of architecture phi3 are refused."
    kills = ("M0-W-1230/phi3-form",)
    source = "known defect 50: architecture strings rejected"
    files, reason = ("miniature-phi3-q4_k_m",), "tensor blk.0.attn_q.weight is missing"


class RefusesGptOss(Refuses):
    name = "gpt-oss-refused"
    about = "Files of architecture gpt-oss are refused."
    kills = ("M0-W-1230/gpt-oss-form",)
    source = "known defect 50: architecture strings rejected"
    files, reason = ("miniature-gpt-oss-mxfp4",), "architecture 'gpt-oss' is not supported"


class Misreads(Launched):
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


def rewrite(source: Path, path: Path, change: Callable[[str, str, Any], Any]) -> None:
    """Write a model file again with changed tensors."""
    import gguf  # noqa: PLC0415 - NumPy, for the few launches that need it
    from m0_models import container  # noqa: PLC0415 - needed by this defect alone
    from m0_models.corrupt import read_back  # noqa: PLC0415 - needed by this defect alone

    architecture = str(gguf.GGUFReader(source).fields["general.architecture"].contents())
    metadata, tensors = read_back(source)
    changed = [container.Tensor(t.name, t.type, change(t.name, t.type, t.raw)) for t in tensors]
    container.write(path, architecture, metadata, changed)


def swapped_nibbles(raw: Any, block: int, scale: int) -> Any:
    """Blocks of so many bytes with their 4-bit values in the wrong order, scales untouched."""
    changed = raw.reshape(-1, block).copy()
    values = changed[:, scale:]
    changed[:, scale:] = (values >> 4) | (values << 4)
    return changed.reshape(raw.shape)


class NibblesOfQ4(Misreads):
    name = "q4-0-nibbles-swapped"
    about = "The two halves of every Q4_0 byte are taken in the wrong order."
    kills = ("M0-W-1201/q4-0-runs",)
    source = "known defect 43: bit layouts wrong"
    files = ("script",)

    def tensor(self, name: str, kind: str, raw: Any) -> Any:
        return swapped_nibbles(raw, 18, 2) if kind == "Q4_0" else raw


class NibblesOfMxfp4(Misreads):
    name = "mxfp4-nibbles-swapped"
    about = "The two halves of every MXFP4 byte are taken in the wrong order."
    kills = ("M0-W-1201/mxfp4-runs",)
    source = "known defect 43: bit layouts wrong"
    files = ("script-mxfp4",)

    def tensor(self, name: str, kind: str, raw: Any) -> Any:
        return swapped_nibbles(raw, 17, 1) if kind == "MXFP4" else raw


class DropsBiases(Misreads):
    name = "attention-biases-dropped"
    about = "Query, key and value biases are left out."
    kills = ("M0-W-1214/attention-biases",)
    source = "known defect 41: biases null"
    files = ("bias",)

    def tensor(self, name: str, kind: str, raw: Any) -> Any:
        return raw * 0 if name.endswith("attn_v.bias") else raw


class WrongPairing(Misreads):
    name = "rope-wrong-pairs"
    about = "In qwen2 files the rotary embedding turns neighbouring dimensions."
    kills = ("M0-W-1430/positions",)
    source = "known defect 46: RoPE pairing wrong"
    files = ("position",)

    def write(self, path: Path) -> None:
        from m0_models.probes import position  # noqa: PLC0415 - needed by this defect alone

        position(path, quant="Q8_0", pairing="llama")


class PositionStuck(Misreads):
    name = "position-counter-stuck"
    about = "The position counter never advances."
    kills = ("M0-W-1430/positions",)
    source = "known defect 46: position counter always 0"
    files = ("position-llama",)

    def tensor(self, name: str, kind: str, raw: Any) -> Any:
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


class QuantConstant(HealthConstant):
    name = "quant-kind-constant"
    about = "/health says Q4_0 whatever the file is."
    kills = ("M0-W-1201/quant-kind-stored",)
    source = "known defect 11: constants in /health"
    field, value = "quant_kind", "Q4_0"


class ContextConstant(HealthConstant):
    name = "context-length-constant"
    about = "/health says 131072 whatever the file's context length is."
    kills = ("M0-W-1211/context-length",)
    source = "known defect 11: constants in /health"
    field, value = "context_length", 131072
