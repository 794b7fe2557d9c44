"""Every check that declares conditions, once more under each round of the plan; its own judges judge it."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from m0_conformance import areas
from m0_conformance.areas.requests.checks import unserved_forms
from m0_conformance.run.marks import Repeats, requirement
from m0_conformance.run.variation import Variation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from m0_conformance.run.situation import Situation


DEFAULTS = ("M0-W-1300/minimal-body", "M0-W-1300/optional-defaults")


def declared() -> Iterator[tuple[str, Callable[..., Awaitable[None]], Repeats]]:
    """Name, function and conditions of each check that has some."""
    for module in pkgutil.walk_packages(areas.__path__, f"{areas.__name__}."):
        if not module.name.endswith(".checks") or module.name == __name__:
            continue
        area = module.name.removeprefix(f"{areas.__name__}.").removesuffix(".checks")
        for name, check in vars(import_module(module.name)).items():
            if name.startswith("test_") and isinstance(found := getattr(check, "repeats", None), Repeats):
                yield f"test_{area}_{name.removeprefix('test_')}", check, found


def repeat_of(check: Callable[..., Awaitable[None]], conditions: Repeats) -> Any:
    """The check as one that runs under the conditions of a round."""
    marks = {mark.name: mark for mark in check.pytestmark}  # type: ignore[attr-defined]  # pytest's

    async def repeat(situation: Situation, round_: int) -> None:
        sure = (situation.probe or {}).get("kind") == "script" and situation.pace.says_script
        omits = not situation.broken(*DEFAULTS)
        unserved = await unserved_forms(situation)
        situation.variation = Variation(round_, conditions.dimensions, free=sure, omits=omits, unserved=unserved)
        await check(situation)

    repeat.__doc__ = check.__doc__
    made = pytest.mark.parametrize("round_", range(conditions.rounds))(requirement(*marks["requirement"].args)(repeat))
    return pytest.mark.launch(*marks["launch"].args)(made) if "launch" in marks else made


for _name, _check, _conditions in declared():
    globals()[_name] = repeat_of(_check, _conditions)
