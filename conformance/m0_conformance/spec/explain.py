"""Plain text for `m0-conformance list` and `explain ID`, and the table of readings in docs/readings.md."""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, TypeAlias

from m0_conformance.spec.registry import load_registry
from m0_conformance.spec.requirements import Disposition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from m0_conformance.spec.requirements import Clause, Reading, Registry, Requirement

WIDTH = 100
READINGS_BEGIN = "<!-- table of readings: generated, see `m0_conformance.spec.explain.readings_table` -->"
READINGS_END = "<!-- end of the table of readings -->"

_SEEN = {
    "wire": "seen in HTTP exchanges",
    "timing": "seen in arrival times",
    "cli": "seen in how the process answers its arguments",
    "process": "seen in the process: start, exit, signals, crafted models",
    "log": "seen in what the process logs",
    "gpu": "seen on an NVIDIA device",
    "whitebox": "seen only inside the worker",
    "document": "seen in a document of the worker's repository",
}


class UnknownNameError(KeyError):
    """No requirement, clause, reading or profile has this name; the message offers near ones."""

    def __init__(self, name: str, near: Iterable[str]) -> None:
        offers = ", ".join(near)
        self.message = f"unknown ID {name!r}" + (f"; did you mean {offers}?" if offers else "")
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


def list_clauses(
    registry: Registry, *, pattern: str = "*", profile: str | None = None, status: str | None = None
) -> str:
    """A line for every clause that fits, grouped by requirement.

    `pattern` is a glob over clause and requirement ids ("M0-W-13*", "*/cancel*"); `profile` keeps what that profile
    holds, with what it includes. Ends with a line end. Raises UnknownNameError for an unknown profile or status.
    """
    if profile is not None and profile not in registry.profiles:
        raise UnknownNameError(profile, registry.profiles)
    if status is not None and status not in set(Disposition):
        raise UnknownNameError(status, Disposition)
    kept = {clause.id for clause in (registry.in_profile(profile) if profile else registry.clauses.values())}
    lines = []
    shown: list[Clause] = []
    for requirement in registry.requirements.values():
        clauses = [
            clause
            for clause in requirement.clauses
            if clause.id in kept
            and (status is None or clause.status == status)
            and (fnmatchcase(clause.id, pattern) or fnmatchcase(requirement.id, pattern))
        ]
        if clauses:
            lines.append(f"{requirement.id}  {requirement.title}  [{requirement.level}, {requirement.scope}]")
            lines += [_line(clause) for clause in clauses]
            shown += clauses
    counts = Counter(clause.status for clause in shown)
    total = ", ".join(f"{counts[kind]} {kind}" for kind in Disposition if counts[kind])
    requirements = len({clause.requirement for clause in shown})
    lines.append(f"{len(shown)} clauses of {requirements} requirements" + (f": {total}" if total else ""))
    return "\n".join(lines) + "\n"


def _line(clause: Clause) -> str:
    return f"  {clause.name:<26} {clause.level:<6} {clause.observable:<8} {_place(clause):<10} {clause.text}"


Proof: TypeAlias = Callable[["Clause"], dict[str, list[str]]]
"""By kind (checks, judges, defects, files) what stands for a clause, a line each."""


def explain(registry: Registry, name: str, proof: Proof | None = None) -> str:
    """All that is known about a requirement, a clause, a reading or a profile, as plain text with a line end.

    `proof` says what drives, judges and proves a clause; without it that is left out. Raises UnknownNameError.
    """
    if name in registry.requirements:
        text = _requirement(registry, registry.requirements[name])
    elif name in registry.clauses:
        text = _clause(registry, registry.clauses[name], proof)
    elif name in registry.readings:
        text = _reading(registry, registry.readings[name])
    elif name in registry.profiles:
        text = _profile(registry, name)
    elif name in registry.retired:
        text = f"{name} is retired: {registry.retired[name]}"
    else:
        known = [*registry.requirements, *registry.clauses, *registry.readings, *registry.profiles]
        raise UnknownNameError(name, difflib.get_close_matches(name, known, n=3))
    return text + "\n"


def _requirement(registry: Registry, requirement: Requirement) -> str:
    lock = registry.spec
    parts = [
        f"{requirement.id}  {requirement.title}",
        f"{requirement.level}, scope {requirement.scope}, line {requirement.line} of {lock.path} at {lock.commit[:12]}",
    ]
    if requirement.reason:
        parts.append(_paragraph("Not judged", requirement.reason))
    parts += [
        _paragraph(f"  {clause.name} ({_short(clause)})", clause.text, indent="      ")
        for clause in requirement.clauses
    ]
    return "\n".join(parts)


def _short(clause: Clause) -> str:
    return f"{clause.level}, {clause.observable}, {_place(clause)}"


def _place(clause: Clause) -> str:
    """The profile of an active clause; of others, why they are not judged."""
    return clause.profile if clause.status is Disposition.ACTIVE else clause.status


def _clause(registry: Registry, clause: Clause, proof: Proof | None) -> str:
    requirement = registry.requirements[clause.requirement]
    parts = [
        clause.id,
        fill(clause.text, WIDTH),
        "",
        f"of          {requirement.id} {requirement.title}, line {requirement.line} of {registry.spec.path}",
        f"level       {clause.level} ({clause.level_basis})",
        _paragraph("status", clause.status + (f": {clause.reason}" if clause.reason else "")),
        f"observable  {clause.observable}: {_SEEN[clause.observable]}",
        f"profile     {clause.profile}",
    ]
    if clause.takes:
        parts.append(_paragraph("takes", clause.takes))
    if clause.min_evidence > 1:
        parts.append(f"evidence    a PASS rests on at least {clause.min_evidence} observations")
    if clause.depends_on:
        parts.append(f"depends on  {', '.join(clause.depends_on)}")
    if clause.note:
        parts.append(_paragraph("note", clause.note))
    for name in clause.readings:
        reading = registry.readings[name]
        parts.append(_paragraph(f"{name}", f"{reading.problem} Read as: {reading.reading}"))
    if clause.no_defect:
        parts.append(_paragraph("no defect", clause.no_defect))
    for kind, lines in proof(clause).items() if proof is not None else ():
        parts.append("\n            ".join([f"{kind:<11} {lines[0] if lines else 'none'}", *lines[1:]]))
    return "\n".join(parts)


def _reading(registry: Registry, reading: Reading) -> str:
    parts = [
        f"{reading.name}  ({reading.topic})",
        _paragraph("open point", reading.problem),
        _paragraph("read as", reading.reading),
    ]
    for variant in reading.variants:
        star = " (default)" if variant.name == reading.default else ""
        parts.append(_paragraph(f"  {variant.name}{star}", f"{variant.text} [{variant.stance}]"))
    clauses = [clause.id for clause in registry.clauses_of_reading(reading.name)]
    if clauses:
        parts.append(_paragraph("decides", ", ".join(clauses)))
    return "\n".join(parts)


def _profile(registry: Registry, name: str) -> str:
    profile = registry.profiles[name]
    held = registry.in_profile(name)
    parts = [
        f"{profile.name}  {profile.title}",
        f"needs {profile.needs}; {'gates' if profile.gates else 'never gates'}",
    ]
    if profile.includes:
        parts.append(f"includes {', '.join(profile.includes)}")
    judged = registry.judged(name)
    parts.append(
        f"{len(judged)} of {len(held)} clauses judged, of {len({clause.requirement for clause in judged})} requirements"
    )
    return "\n".join(parts)


def _paragraph(label: str, text: str, indent: str = "            ") -> str:
    """`label` and `text`, folded and indented under the label."""
    return fill(f"{label:<11} {text}", WIDTH, subsequent_indent=indent)


def readings_table(registry: Registry) -> str:
    """The Markdown table of docs/readings.md, between its two comment lines."""
    rows = ["| Reading | Open point | Read as | Strict accepts | Decides |", "|---|---|---|---|---|"]
    for reading in registry.readings.values():
        strict = ", ".join(f"`{variant.name}`" for variant in reading.variants if variant.stance == "strict")
        clauses = ", ".join(f"`{clause.id}`" for clause in registry.clauses_of_reading(reading.name))
        rows.append(f"| {reading.name} | {reading.problem} | {reading.reading} | {strict or '-'} | {clauses or '-'} |")
    return "\n".join([READINGS_BEGIN, *rows, READINGS_END])


def replace_readings_table(registry: Registry, page: str) -> str:
    """`page` with the text between the two comment lines made anew. Raises ValueError if they are missing."""
    begin, end = page.find(READINGS_BEGIN), page.find(READINGS_END)
    if begin < 0 or end < begin:
        raise ValueError(f"the page lacks the lines {READINGS_BEGIN!r} and {READINGS_END!r}")
    return page[:begin] + readings_table(registry) + page[end + len(READINGS_END) :]


def main() -> None:
    """Renew the table of readings in the Markdown file named on the command line."""
    page = Path(sys.argv[1])
    page.write_text(replace_readings_table(load_registry(), page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
