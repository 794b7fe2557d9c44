"""What a check says about itself: its clauses, the worker it needs, what it does to it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, cast

import pytest

from m0_conformance.conditions.rounds import FORMS, ROUNDS
from m0_conformance.run.interrupt import interruptible

Need: TypeAlias = Literal["command", "cuda", "destructive", "real-model"]
_F = TypeVar("_F", bound=Callable[..., Awaitable[None]])
CHECK_LIMIT_S = 240.0
"""A check that runs longer is a fault of the suite."""


@dataclass(frozen=True, slots=True)
class LaunchKey:
    """A launch configuration; checks with equal keys share one worker process."""

    model: str = "script"
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """For people: "script --kv-cache-size-mb 1"."""
        return " ".join((*(f"{k}={v}" for k, v in self.env), self.model, *self.args))


DEFAULT_LAUNCH = LaunchKey()


def requirement(*clauses: str) -> Callable[[_F], _F]:
    """Name the clauses a check exercises; makes the function a check. An unknown clause is a collection error."""

    def mark(function: _F) -> _F:
        @functools.wraps(function)
        async def limited(*args: Any, **kwargs: Any) -> None:
            with interruptible():
                async with asyncio.timeout(CHECK_LIMIT_S):
                    await function(*args, **kwargs)

        return cast("_F", pytest.mark.asyncio(loop_scope="session")(pytest.mark.requirement(*clauses)(limited)))

    return mark


def launch(
    model: str = "script", *, args: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> pytest.MarkDecorator:
    """Ask for a worker started with this probe model (`m0_models.probes.catalogue()`), further arguments, environment.

    Such a check needs a command target; with a URL it is NOT_TESTED. Without this mark a check runs on the default
    worker
    (model "script") or on the URL, and must not depend on the model's text.
    """
    return pytest.mark.launch(LaunchKey(model, tuple(args), tuple(sorted((env or {}).items()))))


@dataclass(frozen=True, slots=True)
class Repeats:
    """How a check is repeated under other conditions (see `conditions.rounds`)."""

    dimensions: frozenset[str]
    """What may vary; everything else keeps its usual form."""
    rounds: int


def repeated(*dimensions: str, without: Sequence[str] = (), rounds: int = ROUNDS) -> Callable[[_F], _F]:
    """Declare under which conditions the check's clauses hold as well: it is repeated under all forms of them.

    Args:
        dimensions: of `conditions.rounds.FORMS`; all of them when none is named.
        without: but these.
        rounds: fewer than all, for a check that takes long: then not each of its requests meets every form.
    """
    chosen = frozenset(dimensions or FORMS) - frozenset(without)
    if unknown := chosen - frozenset(FORMS):
        raise ValueError(f"no dimensions {sorted(unknown)}; there are {', '.join(FORMS)}")

    def declare(function: _F) -> _F:
        function.repeats = Repeats(chosen, rounds)  # type: ignore[attr-defined]  # ours
        return function

    return declare


def needs(*what: Need) -> pytest.MarkDecorator:
    """What the check cannot do without: "command", a worker we start ourselves; "cuda", an NVIDIA device.

    "real-model": the file of --real-model; without that option the check is no part of the run.
    "destructive": it may end or harm the worker behind a URL; a command target gets a process of its own anyway.
    """
    return pytest.mark.needs(*what)


def alone() -> pytest.MarkDecorator:
    """The check gets a worker process of its own, stopped afterwards (signals, shutdown, exhaustion)."""
    return pytest.mark.alone()
