"""Checks of model files of every form that must load: storage types, containers, architectures."""

from __future__ import annotations

import os
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from m0_models.bytelevel import words

from m0_conformance.run.situation import Situation, needs, requirement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from m0_conformance.run.situation import Target


AT_ONCE = min(4, os.cpu_count() or 1)
LENGTH = 6
METRONOME_TEXT = b"".join(words(LENGTH)).decode("ascii")
"""What the model behind the crafted files says after any prompt."""
METRONOME_CONTEXT = 8192
OFTEN = 16
"""Times that one letter is said before 122 others: storage with uneven steps, as Q4_0's are, tells 16 from 2 by far."""

MINIATURES = {
    "miniature:gpt2-q4_0": ("M0-W-1212/gpt2",),
    "miniature:qwen2-tied": ("M0-W-1214/tied-output",),
    "miniature:phi3-q4_k_m": ("M0-W-1230/phi3-form",),
    "miniature:gpt-oss-mxfp4": ("M0-W-1230/gpt-oss-form",),
}
"""Random weights: they promise a job that ends, and no text."""


def cycle(facts: dict[str, Any], length: int = LENGTH) -> str:
    """The text that a script probe says first after the prompt "*"."""
    return b"".join(bytes.fromhex(word) for word in facts["scripts"]["*"]["cycle"][:length]).decode("ascii")


class Forms:
    """Drives one model after the other and notes what each promises."""

    def __init__(self, situation: Situation) -> None:
        self.situation = situation
        self.models: dict[str, dict[str, Any]] = {}

    async def job(
        self, label: str, on: Target | None, text: str | None, clauses: tuple[str, ...], prompt: str, **promise: Any
    ) -> None:
        """One greedy job; /health where `promise` holds the file's format or context length."""
        self.models[label] = {"clauses": list(clauses), "text": text, "format": None, "context": None, **promise}
        await self.situation.execute(f"job {label}", on=on, prompt=prompt, max_tokens=LENGTH, temperature=0.0)
        if promise:
            await self.situation.get(f"health {label}", "/health", on=on)

    async def launch(self, label: str, clauses: tuple[str, ...], *, exact: bool = True) -> Target | None:
        """Start a model; None (and the clauses noted) when it did not become ready. Not `exact`: in any form."""
        shown = label if exact else f"{label} in any form"
        worker = await self.situation.launch(shown, model=label, exact=exact)
        if worker.running_process.launch.ready_at is not None:
            return worker
        self.models[shown] = {"clauses": list(clauses), "text": None, "format": None, "context": None}
        return None


GROUPS: dict[str, tuple[str, ...]] = {
    "formats": (
        "M0-W-1201/q4-0-runs",
        "M0-W-1201/q4-k-m-runs",
        "M0-W-1201/mxfp4-runs",
        "M0-W-1201/quant-kind-stored",
        "M0-W-1211/context-length",
    ),
    "containers": ("M0-W-1211/alignment", "M0-W-1211/optional-keys", "M0-W-1212/llama"),
    "qwen2": ("M0-W-1214/attention-biases", "M0-W-1230/qwen2-form", "M0-W-1430/attends-to-context"),
    "positions": ("M0-W-1430/positions",),
    **{label.partition(":")[2]: clauses for label, clauses in MINIATURES.items()},
}
"""Models that are tried together, and what they show."""


@requirement()
@pytest.mark.parametrize(
    "group",
    [pytest.param(name, id=name, marks=pytest.mark.requirement(*clauses)) for name, clauses in GROUPS.items()],
)
@needs("command")
async def test_forms_of_models(situation: Situation, group: str) -> None:
    """Every format and architecture once, and what attention must see."""
    forms = Forms(situation)
    echoes: dict[str, str] = {}
    remembered: dict[str, str] = {}
    alphabets: dict[str, str] = {}
    choice = random.Random(situation.seed)  # noqa: S311 - letters of a prompt

    async def shared() -> None:
        clause = ("M0-W-1201/q4-0-runs",)
        if situation.probe is None:
            return
        if (situation.probe["form"], situation.probe["quant"]) != ("qwen2", "Q4_0"):  # the worker refused that one
            await script("script", clause[0], "Q4_0")
            return
        text, context = cycle(situation.probe), situation.probe["context"]
        await forms.job("script", None, text, clause, "*", format="Q4_0", context=context)

    async def script(label: str, clause: str, kind: str | None) -> None:
        exact = kind is not None  # else the architecture is what counts, in any storage
        if (worker := await forms.launch(label, (clause,), exact=exact)) is not None and worker.probe is not None:
            context = worker.probe["context"]
            await forms.job(label, worker, cycle(worker.probe), (clause,), "*", format=kind, context=context)

    async def crafted(label: str, *clause: str) -> None:
        if (worker := await forms.launch(label, clause)) is not None:
            await forms.job(label, worker, METRONOME_TEXT, clause, "hello", context=METRONOME_CONTEXT)

    async def miniature(label: str, clauses: tuple[str, ...]) -> None:
        if (worker := await forms.launch(label, clauses)) is not None:
            await forms.job(label, worker, None, clauses, "hello")

    async def biases() -> None:
        clause = ("M0-W-1214/attention-biases",)
        if (worker := await forms.launch("bias", clause, exact=False)) is not None and worker.probe is not None:
            await forms.job("bias", worker, worker.probe["says"] * LENGTH, clause, "abc")

    async def echo(label: str) -> None:
        if (worker := await forms.launch(label, (), exact=False)) is None or worker.probe is None:
            return
        letters = [letter for letter in worker.probe["alphabet"] if letter.strip().isalnum()]
        for name, length in (("near", 4), ("far", 300)):
            said = choice.sample(letters, 4)
            prompt = "".join([*(choice.choice(letters) for _ in range(length)), *said])
            echoes[f"{label} {name}"] = "".join(said) * 2
            await situation.execute(f"{label} {name}", on=worker, prompt=prompt, max_tokens=8, temperature=0.0)

    async def memory() -> None:
        clause: tuple[str, ...] = ("M0-W-1230/qwen2-form",)
        worker = await forms.launch("memory", clause, exact=False)
        if worker is not None and (worker.probe or {}).get("form") != "qwen2":  # the form that was loaded is another
            await forms.launch("memory", clause)
            clause = ()
        if worker is None or worker.probe is None:
            return
        letters = [letter for letter in worker.probe["alphabet"] if letter.strip().isalnum()]
        first, second = letters[:2]
        text = first * LENGTH
        await forms.job("memory" if clause else "memory in another form", worker, text, clause, first * 3 + second)
        often, *others = choice.sample(letters, len(letters))
        filler = choice.sample(others * 2, 2 * len(others))
        remembered["far back"] = often * LENGTH
        prompt = often * OFTEN + "".join(filler)
        await situation.execute("far back", on=worker, prompt=prompt, max_tokens=LENGTH, temperature=0.0)
        these = "".join(letters[-3:])
        alphabets["only these"] = these + "?"
        await situation.execute("only these", on=worker, prompt=these * 8, max_tokens=24, temperature=1.0, seed=7)

    tasks: dict[str, list[Callable[[], Awaitable[None]]]] = {
        "formats": [
            shared,
            partial(script, "script-q4-k-m", "M0-W-1201/q4-k-m-runs", "Q4_K_M"),
            partial(script, "script-mxfp4", "M0-W-1201/mxfp4-runs", "MXFP4"),
        ],
        "containers": [
            partial(script, "script-llama", "M0-W-1212/llama", None),
            partial(crafted, "corrupt:alignment-64", "M0-W-1211/alignment"),
            partial(crafted, "corrupt:without-scores", "M0-W-1211/optional-keys"),
            partial(crafted, "corrupt:without-optional-keys", "M0-W-1211/optional-keys"),
        ],
        "qwen2": [biases, memory],
        "positions": [partial(echo, "position"), partial(echo, "position-llama")],
        **{label.partition(":")[2]: [partial(miniature, label, clauses)] for label, clauses in MINIATURES.items()},
    }
    await situation.together(*tasks[group], at_once=AT_ONCE)
    situation.fact("models", forms.models)
    situation.fact("echoes", echoes)
    situation.fact("remembered", remembered)
    situation.fact("alphabets", alphabets)
