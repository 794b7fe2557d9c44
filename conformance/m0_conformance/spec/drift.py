"""Compares a copy of the spec with the one that the registry was written against (`m0-conformance spec check`).

The spec is not shipped; its passages are known by line and digest. A passage runs from a heading with an identifier to
the line before the next heading, inside code blocks too; runs of white space are folded to one space before hashing.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from m0_conformance.spec.requirements import Registry, Requirement

EXIT_SAME = 0
EXIT_DIFFERS = 1
EXIT_USAGE = 2

_HEADING = re.compile(r"#{1,6} ")
_IDENTIFIED = re.compile(r"#{1,6} +\[(M0-(?:W|SYS)-[0-9.]+)\]\s*(.*?)\s*")
_KEYWORD = re.compile(r"\b(?:MUST|SHALL|REQUIRED)\b")


@dataclass(frozen=True, slots=True)
class Passage:
    """One requirement's text in the file at hand."""

    id: str
    title: str
    line: int
    """Line of its heading, from 1."""
    sha256: str
    demands: tuple[tuple[int, str], ...]
    """Lines that hold MUST, SHALL or REQUIRED: number and text."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The same passage at another line."""

    id: str
    was: int
    now: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of the pinned passages."""

    same_file: bool
    """Byte for byte the pinned file."""
    unchanged: tuple[str, ...]
    moved: tuple[Moved, ...]
    changed: tuple[Passage, ...]
    appeared: tuple[Passage, ...]
    vanished: tuple[Requirement, ...]
    repeated: tuple[str, ...]
    """Identifiers with more than one heading; the first counts."""

    @property
    def exit_code(self) -> int:
        """0 when every passage is the pinned one, wherever it stands; 1 otherwise."""
        return EXIT_DIFFERS if self.changed or self.appeared or self.vanished or self.repeated else EXIT_SAME


def find_passages(text: str) -> list[Passage]:
    """Every passage with an identifier, in the order of the file."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if _HEADING.match(line)]
    found = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        heading = _IDENTIFIED.fullmatch(lines[start])
        if heading is None:
            continue
        folded = " ".join("\n".join(lines[start:end]).split())
        demands = tuple(
            (number + 1, " ".join(lines[number].split()))
            for number in range(start, end)
            if _KEYWORD.search(lines[number])
        )
        digest = hashlib.sha256(folded.encode()).hexdigest()
        found.append(Passage(heading[1], heading[2], start + 1, digest, demands))
    return found


def compare(registry: Registry, text: str, file_sha256: str = "") -> Comparison:
    """Set the passages of `text` against the registry's."""
    passages = find_passages(text)
    counts = Counter(passage.id for passage in passages)
    first: dict[str, Passage] = {}
    for passage in passages:
        first.setdefault(passage.id, passage)
    pinned = registry.requirements
    same = {name for name, passage in first.items() if name in pinned and pinned[name].sha256 == passage.sha256}
    return Comparison(
        same_file=file_sha256 == registry.spec.sha256,
        unchanged=tuple(name for name in first if name in same and first[name].line == pinned[name].line),
        moved=tuple(
            Moved(name, pinned[name].line, first[name].line)
            for name in first
            if name in same and first[name].line != pinned[name].line
        ),
        changed=tuple(passage for name, passage in first.items() if name in pinned and name not in same),
        appeared=tuple(passage for name, passage in first.items() if name not in pinned),
        vanished=tuple(requirement for name, requirement in pinned.items() if name not in first),
        repeated=tuple(name for name, count in counts.items() if count > 1),
    )


def check_file(registry: Registry, path: Path) -> tuple[int, str]:
    """Compare the file at `path`: exit code and the text to print. Never raises for a bad file: exit code 2."""
    try:
        data = path.read_bytes()
        text = data.decode()
    except OSError as error:
        return EXIT_USAGE, f"{path}: cannot be read ({error.strerror})"
    except UnicodeDecodeError as error:
        return EXIT_USAGE, f"{path}: is no UTF-8 text (byte {error.start})"
    if not find_passages(text):
        return EXIT_USAGE, f"{path}: holds no heading such as '#### [M0-W-1300] …'; is it the M0 worker spec?"
    comparison = compare(registry, text, hashlib.sha256(data).hexdigest())
    return comparison.exit_code, render(registry, comparison)


def render(registry: Registry, comparison: Comparison) -> str:
    """The comparison as plain text: a summary line, then whatever needs a person."""
    lock = registry.spec
    kept = len(comparison.unchanged) + len(comparison.moved)
    lines = [
        f"pinned: {lock.repository} {lock.path} at {lock.commit[:12]}"
        + (" (this is that file)" if comparison.same_file else ""),
        (
            f"{kept} of {len(registry.requirements)} passages unchanged ({len(comparison.moved)} at another line), "
            f"{len(comparison.changed)} changed, {len(comparison.appeared)} new, {len(comparison.vanished)} gone"
        ),
    ]
    for passage in comparison.changed:
        requirement = registry.requirements[passage.id]
        lines.append(f"\nCHANGED  {passage.id} {passage.title} (line {requirement.line} -> {passage.line})")
        if passage.title != requirement.title:
            lines.append(f"  title was: {requirement.title}")
        lines += [f"  review {clause.id}: {clause.text}" for clause in requirement.clauses]
        lines += _demands(passage)
    for passage in comparison.appeared:
        lines.append(f"\nNEW      {passage.id} {passage.title} (line {passage.line}): no clause stands for it")
        lines += _demands(passage)
    for requirement in comparison.vanished:
        lines.append(f"\nGONE     {requirement.id} {requirement.title} (was at line {requirement.line})")
        lines += [f"  retire {clause.id}" for clause in requirement.clauses]
    lines += [f"\nTWICE    {name} has more than one heading; the first was compared" for name in comparison.repeated]
    if comparison.moved:
        shown = ", ".join(f"{move.id} {move.was}->{move.now}" for move in comparison.moved[:8])
        more = len(comparison.moved) - 8
        lines.append(f"\nmoved: {shown}" + (f" and {more} more" if more > 0 else ""))
    return "\n".join(lines)


def _demands(passage: Passage) -> list[str]:
    """Sentences that need a clause: all of a new or changed passage, since the old words are not kept."""
    return [f"  demand at line {number}: {text}" for number, text in passage.demands]
