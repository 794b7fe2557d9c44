"""Where a clause lives: the checks that drive it, the judges that speak about it, the defects that prove them."""

from __future__ import annotations

import inspect
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from m0_conformance.judging.judge import INVARIANTS, JUDGES, load_all
from m0_conformance.run.pytest_session import collect_checks
from m0_conformance.saboteur.catalogue import catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from m0_conformance.spec.check_sets import Check
    from m0_conformance.spec.requirements import Clause

PACKAGE = Path(__file__).parent.parent


def proof_of(clause: Clause, collected: Mapping[str, Check] | None = None) -> dict[str, list[str]]:
    """Checks, judges, defects and files of a clause, a line each, with their places below this package.

    Who asks for many clauses gives the checks, which take a second to collect.
    """
    load_all()
    all_checks = collect_checks() if collected is None else collected
    own = [check for check in all_checks.values() if clause.id in check.clauses]
    # The rounds of a repeat are one line, and it stands behind the checks that are repeated.
    repeats = Counter(check.name.partition("[")[0] for check in own if check.name.startswith("conditions::"))
    checks = [f"{check.name}  {below(check.place)}" for check in own if not check.name.startswith("conditions::")]
    checks += [f"{name}, {count} rounds  conditions/rounds.py" for name, count in repeats.items()]
    judges = [
        f"{entry.name}  {below(inspect.getsourcefile(entry.function) or '')}:{entry.function.__code__.co_firstlineno}"
        for entry in (*JUDGES, *INVARIANTS)
        if clause.id in entry.clauses
    ]
    defects = [f"{kind.name}: {kind.about}  {kind.place()}" for kind in catalogue().values() if clause.id in kind.kills]
    folder = PACKAGE / "areas" / clause.area
    files = [below(str(path)) for path in sorted(folder.iterdir()) if path.suffix in {".py", ".toml"}]
    return {
        "checks": checks,
        "judges": judges,
        "defects": defects,
        "files": files[1:] if "__init__" in files[0] else files,
    }


def below(path: str) -> str:
    """A path below this package, as areas/text/judge.py."""
    return path.removeprefix(f"{PACKAGE}/")
