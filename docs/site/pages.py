"""MkDocs hook: pages made from the registry and from the command lines, so that they cannot say something else."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from m0_conformance.run.proof import proof_of
from m0_conformance.run.pytest_session import collect_checks
from m0_conformance.saboteur.pairs import conditional, invisible, pairs, rules, without
from m0_conformance.spec.kill_matrix import recorded
from m0_conformance.spec.registry import load_registry
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from m0_conformance.spec.check_sets import Check
    from m0_conformance.spec.requirements import Clause, Registry, Requirement
    from mkdocs.config.defaults import MkDocsConfig

PROGRAMS = ("m0_conformance", "m0_worker", "m0_parity", "m0_models")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    registry = load_registry()
    checks = collect_checks()
    pages = {
        "requirements/index.md": index(registry),
        "reference/commands.md": commands(),
        "reference/conditional-defects.md": conditional_defects(),
    }
    for requirement in registry.requirements.values():
        pages[f"requirements/{requirement.id}.md"] = page(registry, requirement, checks)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def cell(text: str) -> str:
    """Text that a Markdown table takes as it is."""
    return re.sub(r"([|*_<>\[\]`])", r"\\\1", " ".join(text.split()))


def index(registry: Registry) -> str:
    """All requirements in a table."""
    rows = ["| Requirement | Title | Level | Clauses judged |", "|---|---|---|---|"]
    for requirement in registry.requirements.values():
        judged = sum(clause.status == "active" for clause in requirement.clauses)
        name = f"[{requirement.id}]({requirement.id}.md)"
        rows.append(
            f"| {name} | {cell(requirement.title)} | {requirement.level} | {judged} of {len(requirement.clauses)} |"
        )
    lock = registry.spec
    source = f"Written against `{lock.path}` of {lock.repository} at `{lock.commit[:12]}`, in our own words."
    return "\n".join(["# Requirements", "", source, "", *rows, ""])


def page(registry: Registry, requirement: Requirement, checks: Mapping[str, Check]) -> str:
    """One requirement with its clauses."""
    facts = f"{requirement.level} · scope {requirement.scope} · line {requirement.line} of the spec"
    lines = [f"# {requirement.id}", "", f"**{cell(requirement.title)}** · {facts}", ""]
    if requirement.reason:
        lines += [f"Not judged: {cell(requirement.reason)}", ""]
    for clause in requirement.clauses:
        lines += clause_section(registry, clause, proof_of(clause, checks))
    return "\n".join(lines)


def clause_section(registry: Registry, clause: Clause, proved: dict[str, list[str]]) -> list[str]:
    """Demand, status, readings, and what stands for it."""
    lines = [f"## {clause.name}", "", cell(clause.text), "", "| | |", "|---|---|"]
    facts = {"level": clause.level, "status": clause.status + (f": {clause.reason}" if clause.reason else "")}
    facts |= {"profile": clause.profile, "seen in": clause.observable}
    if clause.depends_on:
        facts["depends on"] = ", ".join(clause.depends_on)
    if clause.note:
        facts["note"] = clause.note
    for name in clause.readings:
        facts[name] = f"{registry.readings[name].problem} Read as: {registry.readings[name].reading}"
    if clause.no_defect:
        facts["no defect"] = clause.no_defect
    lines += [f"| {name} | {cell(str(fact))} |" for name, fact in facts.items()]
    lines += [
        f"| {kind} | {'<br>'.join(cell(entry) for entry in entries)} |" for kind, entries in proved.items() if entries
    ]
    return [*lines, ""]


def conditional_defects() -> str:
    """The catalogue of conditional defects: what is in it, what was missed, what is left out and why."""
    before = recorded()
    caught, missed = ([name for name, was in before.items() if was is found] for found in (True, False))
    lines = ["# Conditional defects", "", f"{len(conditional())} of {len(pairs())} pairs that the groups name. "]
    lines[-1] += f"Ever drawn: {len(before)}; caught when last drawn: {len(caught)}."
    lines += ["", "| Group | About | Actions | Pairs |", "|---|---|---|---|"]
    for name, group in rules()["groups"].items():
        count = sum(pair.group == name for pair in conditional().values())
        lines.append(f"| {name} | {cell(group['about'])} | {cell(', '.join(group['defects']))} | {count} |")
    lines += ["", "## Missed when last drawn", "", "| Conditional defect | Argued to be invisible |", "|---|---|"]
    lines += [f"| {cell(name)} | {cell(invisible(name))} |" for name in missed]
    lines += ["", "## Pairs left out", "", "| Actions | Conditions | Why |", "|---|---|---|"]
    lines += [
        f"| {cell(', '.join(rule['defects']))} | {cell(', '.join(rule['conditions']))} | {cell(rule['why'])} |"
        for rule in rules()["cannot"]
    ]
    lines += ["", "## Defects without a conditional form", "", "| Defect | Why |", "|---|---|"]
    lines += [f"| {cell(name)} | {cell(why)} |" for name, why in without().items()]
    return "\n".join([*lines, ""])


def commands() -> str:
    """What every program says to --help."""
    parts = ["# Commands", ""]
    for program in PROGRAMS:
        name = program.replace("_", "-")
        words = [sys.executable, "-P", "-m", program]
        text = help_of(words)
        parts += [f"## {name}", "", "```text", text, "```", ""]
        for command in re.findall(r"^    ([a-z]+)(?:  |$)", text, re.MULTILINE):
            parts += [f"### {name} {command}", "", "```text", help_of([*words, command]), "```", ""]
    return "\n".join(parts)


def help_of(words: list[str]) -> str:
    """A program's own help."""
    return subprocess.run([*words, "--help"], capture_output=True, text=True, check=True).stdout.rstrip()
