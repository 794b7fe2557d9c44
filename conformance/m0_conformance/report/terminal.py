"""The console's view: the verdict line first, the counts in words, then every failure requirement first.

The same text everywhere; on a terminal rich adds colour. A failure says, in this order: the clause and its level, the
spec line and what it asks, expected, actual with its place, the lines around it, how to do it again.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, TextIO

from m0_conformance.recording.redact import redact
from m0_conformance.report import problems, view
from m0_conformance.report.text import duration, one_line, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.report.document import Report
    from m0_conformance.report.problems import Problem
    from m0_conformance.report.view import Json

ALIKE = 3
"""More clauses than this that are blocked by the same cause are told in one line."""
FULL = 20
"""Failures shown in full; the others in one line each."""
FULL_BESIDE_CAUSES = 3
"""The same where causes with their requests stand above them."""
SHOWN_CLAUSES = 4
_STYLES = {
    "FAIL": "bold red",
    "ERROR": "bold magenta",
    "INCONCLUSIVE": "blue",
    "BLOCKED": "magenta",
    "NOT_TESTED": "bright_black",
    "WARN": "yellow",
    "PASS": "green",
}
_VERDICT_STYLES = {
    "CONFORMANT": "bold green",
    "NON_CONFORMANT": "bold red",
    "PARTIAL": "bold yellow",
    "INCONCLUSIVE": "bold blue",
}


def print_report(report: Report, stream: TextIO | None = None, *, colour: bool | None = None, full: int = FULL) -> None:
    """Write the view to `stream` (standard output by default), coloured if it is a terminal or `colour` says so."""
    out = stream or sys.stdout
    wanted = out.isatty() if colour is None else colour
    if not wanted:
        for text, _ in lines(report, full=full):
            out.write(_encodable(text, out) + "\n")
        return
    from rich.console import Console  # noqa: PLC0415 - costs 60 ms that plain output need not pay
    from rich.text import Text  # noqa: PLC0415 - slow to import

    console = Console(file=out, force_terminal=True, soft_wrap=True, highlight=False)
    for text, style in lines(report, full=full):
        console.print(Text(text, style=style))


def lines(report: Report, *, full: int = FULL) -> Iterator[tuple[str, str]]:
    """(text, rich style) for each line of the view."""
    yield one_line(redact(report["verdict_line"]), 600), _VERDICT_STYLES[report["verdict"]]
    for sentence in view.summary_sentences(report):
        yield f"  {one_line(redact(sentence), 600)}", ""
    yield f"  {_suite(report)}", "bright_black"
    yield from _causes(report)
    found, shared = _apart(problems.attention(report))
    told = [problem for problem in found if problem.gating and problem.status != "WARN"]
    brief = [problem for problem in found if not problem.gating or problem.status == "WARN"]
    full = min(full, FULL_BESIDE_CAUSES) if problems.causes(report) else full
    for problem in told[:full]:
        yield "", ""
        yield from _problem(report, problem)
    rest = [*told[full:], *brief]
    if rest:
        yield "", ""
    for problem in rest:
        what = problems.headline(report, problem)
        aside = "" if problem.gating else "  (never gating)"
        style = _STYLES.get(problem.status, "") if problem.gating else "bright_black"
        yield f"{problem.status:<5} {problem.clause['id']}{aside}  {one_line(redact(what), 160)}", style
    for reason, count in shared.items():
        yield f"BLOCKED  {count} clauses: {one_line(redact(reason), 400)}", _STYLES.get("BLOCKED", "")
    readings = [reading for reading in report["readings"] if reading["observed"] not in (None, reading["default"])]
    if readings:
        yield "", ""
        observed = ", ".join(f"{reading['name']} {one_line(reading['observed'], 60)}" for reading in readings)
        yield f"readings followed where strict mode has no default or another one: {observed}", "bright_black"


def _causes(report: Report) -> Iterator[tuple[str, str]]:
    """What to mend first, each cause with its clauses and one request that shows it."""
    causes = problems.causes(report)
    if not causes:
        return
    yield "", ""
    yield "what to mend first", "bold"
    for number, cause in enumerate(causes, 1):
        yield f"{number:>3} {one_line(redact(cause['says']), 200)}  ({_clauses(cause)})", "bold red"
        yield f"    {one_line(redact(cause['mend']), 300)}", ""
        example = cause["example"]
        if example and example["actual"]:
            yield f"    seen      {one_line(redact(example['actual']), 160)}", ""
        if example and example["curl"]:
            yield f"    {one_line(redact(example['curl']), 600)}", "cyan"


def _clauses(cause: Json) -> str:
    names = cause["clauses"]
    times = f", {cause['findings']} times" if cause["findings"] > len(names) else ""
    more = f" and {len(names) - SHOWN_CLAUSES} more" if len(names) > SHOWN_CLAUSES else ""
    return ", ".join(names[:SHOWN_CLAUSES]) + more + times


def _apart(found: list[Problem]) -> tuple[list[Problem], Counter[str]]:
    """What many clauses are blocked by is told once: a target that never answered is one trouble, not two hundred."""
    reasons = Counter(p.clause["reason"] or "" for p in found if p.status == "BLOCKED" and p.finding is None)
    shared = Counter({reason: count for reason, count in reasons.items() if count > ALIKE})
    rest = [p for p in found if p.status != "BLOCKED" or p.finding is not None or p.clause["reason"] not in shared]
    return rest, shared


def _suite(report: Report) -> str:
    suite, run, target = report["suite"], report["run"], report["target"]
    test = suite["selftest"]
    proof = (
        f"self-test caught {test['killed']}/{test['defects']} defects, "
        + (
            f"{test['conditional_caught']}/{test['conditional_drawn']} conditional ones, "
            if "conditional_caught" in test
            else ""
        )
        + f"flagged {test['benign_flagged']}/{test['benign']} oddities"
        if test
        else "suite unverified: no self-test result"
    )
    where = one_line(redact(view.target_name(report)), 120)
    device = target["device"] or "device unknown"
    return f"{suite['name']} {suite['version']} ({proof}) on {where}, {device}, {duration(run['duration_s'])}"


def _problem(report: Report, problem: Problem) -> Iterator[tuple[str, str]]:
    clause, finding = problem.clause, problem.finding
    check = visible(problems.check_of(report, finding))
    head = f"{problem.status}  {clause['id']}   {clause['level']}" + (f"   {check}" if check else "")
    yield head, _STYLES.get(problem.status, "")
    yield f"  spec L{problem.requirement['line']}   {clause['text']}", ""
    if finding is None:
        yield f"  reason    {one_line(redact(clause['reason'] or ''), 400)}", ""
    else:
        yield from _finding(finding, problems.headline(report, problem))
    yield f"  m0-conformance explain {clause['id']}", "bright_black"


def _finding(finding: Json, message: str) -> Iterator[tuple[str, str]]:
    if message:
        yield f"  found     {one_line(redact(message), 400)}", ""
    if finding["expected"]:
        yield f"  expected  {one_line(redact(finding['expected']), 400)}", ""
    cause = f"   caused_by: {finding['caused_by']}" if finding["caused_by"] else ""
    if finding["actual"]:
        yield f"  actual    {_place(finding['at'])}{one_line(redact(finding['actual']), 400)}{cause}", "bold"
    for line in finding["lines"]:
        yield f"    {one_line(redact(line), 200)}", "bold" if line.startswith(">") else "bright_black"
    if finding["curl"]:
        yield f"  {one_line(redact(finding['curl']), 1500)}", "cyan"
    if finding["replay"]:
        yield f"  {one_line(redact(finding['replay']), 600)}", "cyan"


def _place(at: Json | None) -> str:
    """'event 17 (byte 1204, +0.412 s): ', as much of it as is known."""
    if not at:
        return ""
    head = f"{'log line' if at.get('launch') else 'event'} {at['event']}" if at["event"] is not None else ""
    rest = [f"byte {at['byte']}"] if at["byte"] is not None else []
    rest += [f"+{at['t_ms'] / 1000:.3f} s"] if at["t_ms"] is not None else []
    inner = f"({', '.join(rest)})" if head and rest else ", ".join(rest)
    words = " ".join(part for part in (head, inner) if part)
    return f"{words}: " if words else ""


def _encodable(text: str, out: TextIO) -> str:
    encoding = getattr(out, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
