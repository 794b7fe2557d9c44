"""The house: no file needs itself through others, and everything of a clause is under one roof."""

from __future__ import annotations

from pathlib import Path

import grimp
import m0_conformance
import pytest
from m0_conformance.judging.judge import INVARIANTS, JUDGES, load_all
from m0_conformance.run.pytest_session import collect_checks
from m0_conformance.saboteur.catalogue import catalogue
from m0_conformance.spec.registry import load_registry

PACKAGES = ("m0_worker", "m0_conformance", "m0_parity", "m0_models", "m0_peer")
REGISTRY = load_registry()


def circles(graph: grimp.ImportGraph) -> list[set[str]]:
    """Modules that import each other in a loop, imports for types included; by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(start: str) -> None:
        todo = [(start, iter(sorted(graph.find_modules_directly_imported_by(start))))]
        index[start] = low[start] = len(index)
        stack.append(start)
        while todo:
            module, others = todo[-1]
            other = next(others, None)
            if other is None:
                todo.pop()
                if todo:
                    low[todo[-1][0]] = min(low[todo[-1][0]], low[module])
                if low[module] == index[module]:
                    place = stack.index(module)
                    loop, stack[place:] = set(stack[place:]), []
                    found.extend([loop] if len(loop) > 1 else [])
            elif other not in index:
                index[other] = low[other] = len(index)
                stack.append(other)
                todo.append((other, iter(sorted(graph.find_modules_directly_imported_by(other)))))
            elif other in stack:
                low[module] = min(low[module], index[other])

    for module in sorted(graph.modules):
        if module not in index:
            visit(module)
    return found


def test_a_circle_is_found() -> None:
    graph = grimp.ImportGraph()
    for one, other in (("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")):
        graph.add_import(importer=one, imported=other)
    assert circles(graph) == [{"b", "c"}]


def test_no_file_imports_itself_through_others() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    assert len(graph.modules) > 300
    assert circles(graph) == []


def folder_of(module: str) -> str:
    """The area of a module of the suite."""
    return module.removeprefix("m0_conformance.areas.").rpartition(".")[0].replace(".", "/")


def homes(clause: str) -> dict[str, set[str]]:
    """By kind, the areas in which something stands for a clause."""
    load_all()
    return {
        "demand": {REGISTRY.clauses[clause].area},
        "check": {name.partition("::")[0] for name, check in CHECKS.items() if clause in check.clauses},
        "judge": {folder_of(entry.function.__module__) for entry in (*JUDGES, *INVARIANTS) if clause in entry.clauses},
        "defect": {Path(kind.place()).parts[1] for kind in DEFECTS if clause in kind.kills},
    }


CHECKS = collect_checks()
DEFECTS = [kind for kind in catalogue().values() if not kind.oddity]
ACTIVE = [clause for clause in REGISTRY.clauses.values() if clause.status == "active"]


@pytest.mark.parametrize("name", [clause.id for clause in ACTIVE])
def test_everything_of_a_clause_is_under_one_roof(name: str) -> None:
    clause = REGISTRY.clauses[name]
    for kind, areas in homes(name).items():
        if kind != "defect" or clause.owes_defect:
            assert clause.area in areas, (
                f"{name}: its {kind} stands in {areas or 'no area'}, its demand in {clause.area}"
            )


def test_a_defect_lives_with_the_first_clause_it_breaks() -> None:
    for kind in DEFECTS:
        assert Path(kind.place()).parts[1] == REGISTRY.clauses[kind.kills[0]].area, kind.name


def test_no_two_modules_of_the_suite_have_one_name() -> None:
    package = Path(m0_conformance.__file__).parent
    names = [
        path.stem for path in package.rglob("*.py") if "areas" not in path.parts and not path.stem.startswith("__")
    ]
    assert {name for name in names if names.count(name) > 1} == set()
