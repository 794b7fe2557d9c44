"""What both engines are fed: a model's facts first, then token ids, from a seed, a string or another recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from m0_worker.adapters import Options, load_adapter
from m0_worker.gguf import GgufFile
from m0_worker.tokenizers import TokenizerError, load_tokenizer

from m0_parity import files, llamacpp
from m0_parity.capture import Work, workload
from m0_parity.compare import IncomparableError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from m0_worker.devices.interface import Device, Rotation, StoredTensor


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a run must know of a model beforehand."""

    architecture: str
    layers: int
    storage: str
    vocabulary: int
    context: int
    quantized: bool
    nbytes: int

    def sentence(self) -> str:
        """In words."""
        size = f"{self.nbytes / 1e9:.1f} GB" if self.nbytes >= 1e8 else f"{self.nbytes / 1e6:.1f} MB"
        return f"{self.architecture}, {self.layers} layers, {self.storage}, vocabulary of {self.vocabulary:,}, {size}"


class _NoDevice:
    """Takes a model's tensors and keeps none: whether all are there, with the right shapes, needs no weights."""

    def weight(self, tensors: Sequence[StoredTensor]) -> None:
        """See m0_worker.devices.interface.Device."""

    def vector(self, tensors: Sequence[StoredTensor]) -> None:
        """See m0_worker.devices.interface.Device."""

    def rotation(self, rotation: Rotation) -> None:
        """See m0_worker.devices.interface.Device."""


def look(path: Path) -> ModelFacts:
    """Refuse in a moment what would fail after minutes: damage, unsupported architectures, missing tensors.

    Raises:
        GgufError: no readable GGUF file, or no model that the worker can run; names what is not supported.
    """
    with GgufFile.open(path) as gguf:
        device: Device = _NoDevice()  # type: ignore[assignment]  # loading asks for these three operations only
        load_adapter(gguf, device, Options(1), lambda _: None)
        head = gguf.tensors.get("output.weight", gguf.tensors["token_embd.weight"])
        context, layers = (gguf.require(f"{gguf.architecture}.{key}") for key in ("context_length", "block_count"))
        return ModelFacts(
            gguf.architecture,
            int(str(layers)),
            gguf.file_type,
            head.shape[0],
            int(str(context)),
            any(tensor.type.name != "F32" for tensor in gguf.tensors.values()),
            gguf.size,
        )


def work_of(options: argparse.Namespace, path: Path, model: ModelFacts) -> list[Work]:
    """The token ids to feed: of a recording, of texts, or drawn from a seed.

    Raises:
        IncomparableError: they do not fit the model.
    """
    like, prompts = getattr(options, "like", None), getattr(options, "prompt", None)
    if like is not None:
        work = [Work(r.id, tuple(r.tokens[: r.prompt]), tuple(r.tokens[r.prompt :])) for r in files.read(like)]
        if any(not item.prompt or max(item.tokens) >= model.vocabulary for item in work):
            raise IncomparableError(f"{like.name} has no token ids, or ids beyond the model's {model.vocabulary}")
    elif prompts:
        work = texts_as_work(path, prompts, options.decode)
    else:
        if options.length < 1 or options.decode < 0:
            raise IncomparableError(
                f"a prompt of {options.length} and {options.decode} decode steps: give 1 and 0 or more"
            )
        work = workload(model.vocabulary, length=options.length, decode=options.decode, seed=options.seed)
    longest = max(len(item.tokens) for item in work) + 1
    if longest > model.context:
        cure = "--prompt" if prompts else "--length"
        raise IncomparableError(f"{longest} positions are needed, the model has {model.context}; give a smaller {cure}")
    return work


def texts_as_work(path: Path, texts: Sequence[str], decode: int) -> list[Work]:
    """Each text as a request, its last ``decode`` tokens fed one by one.

    A single text is fed again from its middle on, so that a second request in the same process is seen too.

    Raises:
        IncomparableError: a string without tokens, or two tokenizers that cut it differently.
    """
    with llamacpp.Model(path, vocab_only=True) as reference, GgufFile.open(path) as gguf:
        try:
            tokenizer = load_tokenizer(gguf, path.parent)
            pairs = [(reference.tokenize(text, add_special=True), tokenizer.encode(text)) for text in texts]
        except TokenizerError as error:
            raise IncomparableError(f"the worker cannot cut the text into tokens: {error}") from error
        cut = []
        for number, (ids, ours) in enumerate(pairs, start=1):
            if ids != ours:
                shared = min(len(ids), len(ours))
                at = next((i for i in range(shared) if ids[i] != ours[i]), shared)
                raise IncomparableError(
                    f"prompt {number} is cut into other tokens, first at token {at}: {ids[at : at + 3]} by llama.cpp, "
                    f"{ours[at : at + 3]} by the worker; m0-parity tokenizers fuzz finds out more"
                )
            if not ids:
                raise IncomparableError(f"prompt {number} has no tokens; give a text")
            cut.append(ids)
    if len(cut) == 1:
        cut.append(cut[0][len(cut[0]) // 2 :])
    kept = [max(1, len(ids) - decode) for ids in cut]
    names = ["first", "second", *(f"request {n}" for n in range(3, len(cut) + 1))]
    return [Work(name, tuple(ids[:n]), tuple(ids[n:])) for name, ids, n in zip(names, cut, kept, strict=True)]


def context_of(work: Sequence[Work]) -> int:
    """Positions to open a context for: a multiple of 256."""
    return 256 * -(-(max(len(item.tokens) for item in work) + 1) // 256)
