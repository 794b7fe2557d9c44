"""Two-way sync of clauses with checks and seeded defects: what is promised, what is tested, what is proven."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from m0_conformance.spec.requirements import Registry


@dataclass(frozen=True, slots=True)
class Coverage:
    """Holes and dangling names; all empty when registry, checks and defects agree."""

    without_check: tuple[str, ...]
    """Active clauses, visible from outside or on a GPU, that no check names."""
    without_defect: tuple[str, ...]
    """Active clauses visible from outside that no defect turns red and no reason excuses."""
    checks_of_unknown: tuple[str, ...]
    """'check: clause' for every clause that a check names and the registry does not know."""
    checks_of_inactive: tuple[str, ...]
    """'check: clause (status)' for clauses that are whitebox or excluded: nothing can be seen of them."""
    checks_of_nothing: tuple[str, ...]
    """Checks that name no clause."""
    defects_of_unknown: tuple[str, ...]
    defects_of_inactive: tuple[str, ...]
    defects_of_nothing: tuple[str, ...]
    defects_beside_a_reason: tuple[str, ...]
    """Clauses that say why no defect can turn them red, and have one after all."""

    @property
    def complete(self) -> bool:
        """Whether there is nothing to complain about."""
        return not self.problems()

    def problems(self, about: str = "") -> list[str]:
        """One sentence for each hole; with `about`, of the kinds whose name holds it ("defect")."""
        words = {
            "without_check": "active clause without a check",
            "without_defect": "active clause without a defect, or a reason in `no_defect`",
            "checks_of_unknown": "check of an unknown clause",
            "checks_of_inactive": "check of a clause that nothing outside can decide",
            "checks_of_nothing": "check that names no clause",
            "defects_of_unknown": "defect of an unknown clause",
            "defects_of_inactive": "defect of a clause that is not judged",
            "defects_of_nothing": "defect that names no clause",
            "defects_beside_a_reason": "clause with a defect that says in `no_defect` why there is none",
        }
        kinds = [item.name for item in fields(self) if about in item.name]
        return [f"{words[kind]}: {name}" for kind in kinds for name in getattr(self, kind)]


def coverage(
    registry: Registry,
    checks: Mapping[str, Iterable[str]],
    defects: Mapping[str, Iterable[str]] | None = None,
    collateral: Mapping[str, Iterable[str]] | None = None,
) -> Coverage:
    """Compare clause ids.

    Args:
        registry: the loaded registry.
        checks: check name to the clauses it names.
        defects: defect name to the clauses that it must turn red; None leaves defects out of the comparison.
        collateral: defect name to the clauses that it may turn red besides.
    """
    named = {who: [*names, *(collateral or {}).get(who, ())] for who, names in (defects or {}).items()}
    checked = {clause for names in checks.values() for clause in names}
    broken = {clause for names in (defects or {}).values() for clause in names}
    clauses = registry.clauses
    owing = {name for name, clause in clauses.items() if clause.owes_defect}
    return Coverage(
        without_check=tuple(name for name, clause in clauses.items() if clause.owes_check and name not in checked),
        without_defect=tuple(name for name in clauses if name in owing and name not in broken)
        if defects is not None
        else (),
        checks_of_unknown=_dangling(registry, checks),
        checks_of_inactive=_inactive(registry, checks, {"whitebox", "excluded"}),
        checks_of_nothing=tuple(check for check, names in checks.items() if not list(names)),
        defects_of_unknown=_dangling(registry, named),
        defects_of_inactive=_inactive(registry, named, {"whitebox", "excluded", "disputed"}),
        defects_of_nothing=tuple(defect for defect, names in (defects or {}).items() if not list(names)),
        defects_beside_a_reason=tuple(name for name, clause in clauses.items() if clause.no_defect and name in broken),
    )


def _dangling(registry: Registry, claims: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    return tuple(f"{who}: {name}" for who, names in claims.items() for name in names if name not in registry.clauses)


def _inactive(registry: Registry, claims: Mapping[str, Iterable[str]], statuses: set[str]) -> tuple[str, ...]:
    return tuple(
        f"{who}: {name} ({registry.clauses[name].status})"
        for who, names in claims.items()
        for name in names
        if name in registry.clauses and registry.clauses[name].status in statuses
    )
