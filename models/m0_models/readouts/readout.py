"""One read-out probe: a network, prompts, and the states that right and mistaken engines end in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from threadpoolctl import threadpool_limits

from m0_models import container, layout
from m0_models.bytelevel import Vocabulary
from m0_models.container import FILE_TYPES, Tensor
from m0_models.miniatures import random_values
from m0_models.probes.parts import Probe
from m0_models.quantize import dequantize
from m0_models.readouts import mistakes, storage
from m0_models.readouts.mistakes import Mistake
from m0_models.readouts.network import Network, hidden
from m0_models.recipes import tensor_type
from m0_models.shapes import miniature

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from m0_models.layout import Spec
    from m0_models.readouts.arithmetic import Array
    from m0_models.readouts.edits import Edit
    from m0_models.shapes import Architecture, Shape

RIGHT: Final = "right"
LOGIT: Final = 100.0
"""Logit of a state that is exactly a row of the output matrix."""
PRE: Final[dict[Architecture, str]] = {
    "llama": "llama-bpe",
    "qwen2": "qwen2",
    "phi3": "qwen2",
    "gpt2": "gpt-2",
    "gpt-oss": "gpt-4o",
}


class ReadoutError(ValueError):
    """A read-out that cannot tell what it is meant to tell; the message says which mistakes and by how much."""


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the output matrix: the state after ``step`` generated tokens on a prompt, under one arithmetic."""

    prompt: int
    step: int
    name: str

    @property
    def token(self) -> str:
        """What is said when the state is nearest to this one."""
        return f"[{self.name} {self.prompt + 1}.{self.step + 1}]"


@dataclass(frozen=True, slots=True)
class Readout:
    """A recipe of a read-out probe."""

    name: str
    architecture: Architecture
    about: str
    names: tuple[str, ...]
    """Mistakes that it must tell apart from the right arithmetic and from each other."""
    prompts: tuple[str, ...]
    steps: int = 1
    also: tuple[str, ...] = ()
    """Further mistakes that get a name where they show; where they don't, the engine says right."""
    files: dict[str, Edit] = field(default_factory=dict)
    """Mistakes of arithmetic that a file can make in this network only, as `Mistake.edit` does in all."""
    quant: str = "F32"
    seed: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of Shape."""
    weights: Callable[[Spec, Array], Array] | None = None
    """Changes the random values (numpy order) of a tensor, to bring out what is measured."""
    least: float = 0.05
    """Smallest logit between the right token and a mistake's; states nearer than that get no row."""
    alike: tuple[tuple[str, str], ...] = ()
    """Mistakes that are the same arithmetic here, so that either name may be said."""

    @property
    def file_mistakes(self) -> tuple[str, ...]:
        """The mistakes that a file can make: those of :meth:`Built.write_as_taken`."""
        known = mistakes.of(self.architecture)
        return tuple(n for n in self.names if n in self.files or n not in known or known[n].edit is not None)

    def summary(self) -> str:
        """One line for a list of models."""
        return f"reads out {self.about}: {len(self.names)} mistakes by name; {self.architecture}, {self.quant}"

    def write(self, path: Path) -> Probe:
        """Write the probe; see :class:`Built`."""
        return self.build().write(path)

    def build(self) -> Built:
        """Make everything that the probe consists of; one of a name is made once a process.

        Raises:
            ReadoutError: a mistake would not be named.
        """
        if _BUILT.get(self.name, (None,))[0] is self:
            return _BUILT[self.name][1]
        vocabulary, eos, codes = self._vocabulary()
        tensors, network = self._network(miniature(self.architecture, **self.changes), len(vocabulary))
        known = mistakes.of(self.architecture) | _misreadings(tensors)
        with threadpool_limits(1):  # threads of BLAS would wait for each other while a worker under test is busy
            states = self._states(network, vocabulary, codes, known)
        rows = np.zeros((len(vocabulary), network.shape.width))
        for code, state in states.items():
            rows[codes[code]] = state / np.sqrt(state @ state)
        rows *= LOGIT / max(np.sqrt(state @ state) for state in states.values())
        output = Tensor.encode("output.weight", rows, "F32")
        margins = self._margins(states, codes, rows.astype(np.float32).astype(np.float64))
        built = Built(self, vocabulary, eos, tensors, network, output, known, margins)
        _BUILT[self.name] = self, built
        return built

    def _vocabulary(self) -> tuple[Vocabulary, int, dict[Code, int]]:
        vocabulary = Vocabulary(pre=PRE[self.architecture])
        vocabulary.merge(b"[", b"]")
        codes = {}
        for prompt in range(len(self.prompts)):
            for step in range(self.steps):
                for name in (RIGHT, *self.names, *self.also):
                    code = Code(prompt, step, name)
                    codes[code] = vocabulary.add(code.token.encode())
        if self.architecture == "phi3":  # llama.cpp asks every phi3 file for these
            for string in ("<unk>", "<s>", "</s>"):
                vocabulary.control(string)
        return vocabulary, vocabulary.control("<|endoftext|>"), codes

    def _network(self, shape: Shape, vocabulary: int) -> tuple[list[Tensor], Network]:
        """The file's tensors, output excepted, and the network that a reader gets from them."""
        tensors, values = [], {}
        sized = replace(shape, vocabulary=vocabulary, tied=False)
        for number, spec in enumerate(layout.specs(sized)):
            if spec.role == "output":
                continue
            rng = np.random.default_rng([self.seed, number])
            made = random_values(spec, sized, rng)
            if self.weights is not None:
                made = self.weights(spec, made)
            tensor = Tensor.encode(spec.name, made.astype(np.float32), tensor_type(self.quant, spec, sized))
            tensors.append(tensor)
            values[spec.name] = dequantize(tensor.raw, tensor.type).reshape(spec.shape).astype(np.float64)
        return tensors, Network(sized, values)

    def _states(
        self, network: Network, vocabulary: Vocabulary, codes: dict[Code, int], known: dict[str, Mistake]
    ) -> dict[Code, Array]:
        """The right state of each prompt and step, and each mistake's where it is another."""
        states: dict[Code, Array] = {}
        for number, text in enumerate(self.prompts):
            prompt = vocabulary.encode(text)
            said = [codes[Code(number, step, RIGHT)] for step in range(self.steps - 1)]
            right = hidden(network, [*prompt, *said], len(prompt))
            states |= {Code(number, step, RIGHT): state for step, state in enumerate(right)}
            for name in (*self.names, *self.also):
                mistake = known[name]
                taken = mistake.edit(network) if mistake.edit else network
                mistaken = hidden(taken, [*prompt, *said], len(prompt), mistake.how)
                for step, state in enumerate(mistaken):
                    if LOGIT * (1 - _cosine(state, right[step])) > self.least:
                        states[Code(number, step, name)] = state
        return states

    def _margins(self, states: dict[Code, Array], codes: dict[Code, int], rows: Array) -> dict[Code, float]:
        """Logit of each code's token above the best of another name; what says the wrong name is an error."""
        margins: dict[Code, float] = {}
        names = {token: code.name for code, token in codes.items()}
        same = {frozenset(pair) for pair in self.alike}
        for code, state in states.items():
            logits = rows @ state
            own = codes[code]
            logits[[t for t, name in names.items() if frozenset((name, code.name)) in same]] = -np.inf
            if code.name != RIGHT:  # a mistake's name may be said for another place
                logits[[t for t, name in names.items() if name == code.name and t != own]] = -np.inf
            best = logits[own]
            logits[own] = -np.inf
            margins[code] = float(best - logits.max())
        lost = {name for name in self.names if not any(m > 0 for code, m in margins.items() if code.name == name)}
        if lost:
            worst = {
                name: max([m for code, m in margins.items() if code.name == name], default=None)
                for name in sorted(lost)
            }
            raise ReadoutError(f"{self.name}: not told apart: {worst}")
        return margins


@dataclass(frozen=True, slots=True)
class Built:
    """A read-out probe ready to be written."""

    recipe: Readout
    vocabulary: Vocabulary
    eos: int
    tensors: list[Tensor]
    """All but the output matrix."""
    network: Network
    output: Tensor
    known: dict[str, Mistake]
    margins: dict[Code, float]
    """Logit of each state's own token above the best of another name."""

    def write(self, path: Path) -> Probe:
        """Write the probe.

        facts: ``prompts`` (text, and the tokens that a right engine says), ``names`` (token to mistake), ``about``
        (mistake to what it is), ``margin`` (logit of the right token above the next best, smallest of all),
        ``distances`` (mistake to the logit by which its own name wins under it).
        """
        self._write(path, self.network.shape, self.tensors)
        recipe, margins = self.recipe, self.margins
        says = [[Code(n, step, RIGHT).token for step in range(recipe.steps)] for n in range(len(recipe.prompts))]
        facts = {
            "kind": "readout",
            "readout": recipe.name,
            "architecture": recipe.architecture,
            "quant": recipe.quant,
            "vocab": len(self.vocabulary),
            "eos": self.eos,
            "context": self.network.shape.context,
            "prompts": [{"text": text, "says": said} for text, said in zip(recipe.prompts, says, strict=True)],
            "names": {code.token: code.name for code in margins},
            "about": {name: self.known[name].about for name in (*recipe.names, *recipe.also)},
            "margin": min(margin for code, margin in margins.items() if code.name == RIGHT),
            "distances": {n: max(m for code, m in margins.items() if code.name == n) for n in recipe.names},
        }
        return Probe(path, facts)

    def write_as_taken(self, path: Path, name: str) -> Path:
        """Write the file, in F32, under which a right engine computes what one with mistake ``name`` computes here.

        The output matrix is the probe's own, so a right engine says the mistake's name.

        Raises:
            ValueError: the mistake is one of arithmetic that no file makes, or not among the recipe's.
        """
        recipe = self.recipe
        edit = recipe.files.get(name, self.known[name].edit) if name in recipe.names else None
        if edit is None:
            raise ValueError(f"{recipe.name}: no file makes the mistake {name!r}")
        taken = edit(self.network)
        stored = [Tensor.encode(tensor.name, taken.tensors[tensor.name], "F32") for tensor in self.tensors]
        return self._write(path, taken.shape, stored)

    def _write(self, path: Path, shape: Shape, tensors: Sequence[Tensor]) -> Path:
        metadata = {
            "general.name": f"read-out {self.recipe.name}",
            "general.file_type": FILE_TYPES[self.recipe.quant],
            **layout.metadata(shape),
            **self.vocabulary.metadata(self.eos),
        }
        return container.write(path, self.recipe.architecture, metadata, [*tensors, self.output])


_BUILT: Final[dict[str, tuple[Readout, Built]]] = {}
"""By name: what a process that proves many things about one probe need not make again."""


def _cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _misreadings(tensors: Sequence[Tensor]) -> dict[str, Mistake]:
    """The ways to decode the stored blocks of these tensors incorrectly, as mistakes."""
    found: dict[str, Mistake] = {}
    for kind in {tensor.type for tensor in tensors} & set(storage.TYPES):
        for name, misreading in storage.of(kind).items():
            found[name] = Mistake(name, misreading.about, (), edit=_decoded_incorrectly(tensors, kind, misreading))
    return found


def _decoded_incorrectly(tensors: Sequence[Tensor], kind: str, misreading: storage.Misreading) -> Edit:
    def edit(network: Network) -> Network:
        misread = {
            t.name: storage.values(misreading.change(storage.parts(t.raw, kind))).reshape(network.tensors[t.name].shape)
            for t in tensors
            if t.type == kind
        }
        return Network(network.shape, network.tensors | misread)

    return edit
