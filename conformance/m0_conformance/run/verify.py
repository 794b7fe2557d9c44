"""A report folder that came from somebody else: is it whole, unchanged, and what its recordings say?

Four things are looked at, and all that is wrong is said: report.json against its digest; every recording against the
SHA-256 that is its name; the record of the run against the report; the views against what the report renders to. Then
the recordings are judged again. What lies in the folder and belongs to none of these is named too.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_conformance.judging.report_json import statuses
from m0_conformance.recording.belongings import LIST
from m0_conformance.recording.store import SCRIPTS, STREAM, TRANSCRIPTS, StoreError, counted, stream_line
from m0_conformance.report.document import ReportError, read_report, read_stream
from m0_conformance.run.rejudge import judge_again

if TYPE_CHECKING:
    from collections.abc import Iterator

REPORT = "report.json"


def verify(path: Path) -> int:
    """`m0-conformance verify`: 0 when everything holds, 1 when something does not.

    Raises:
        ReportError: report.json is missing or was changed, so nothing can be said of the rest.
    """
    folder = path if path.is_dir() else path.parent
    report = read_report(folder / REPORT)
    found = [*_recordings(folder, report), *_stream(folder, report), *_views(folder, report), *_strangers(folder)]
    if not found:  # judges need every recording as it was
        found = list(_judged(folder, report))
    for sentence in found:
        sys.stdout.write(f"{sentence}\n")
    if not found:
        sys.stdout.write(
            f"{report['verdict_line']}\n{len(report['recordings'])} recordings, the record of the run and the views "
            "are as the run left them; judged again, every status is the same\n"
        )
    return 1 if found else 0


def _recordings(folder: Path, report: dict[str, Any]) -> Iterator[str]:
    named = set(report["recordings"])
    for sha in sorted(named):
        path = folder / TRANSCRIPTS / f"{sha}.json"
        try:
            data = path.read_bytes()
        except OSError as error:
            yield f"{path}: missing ({error.strerror})"
            continue
        if (content := hashlib.sha256(data).hexdigest()) != sha:
            yield f"{path}: changed after the run; its content has SHA-256 {content[:16]}…, its name says {sha[:16]}…"
    for path in sorted((folder / TRANSCRIPTS).glob("*")):
        if path.suffix != ".json" or path.stem not in named:
            yield f"{path}: a recording that the report does not know"


def _stream(folder: Path, report: dict[str, Any]) -> Iterator[str]:
    path = folder / STREAM
    try:
        lines = read_stream(path)
    except ReportError as error:
        yield str(error)
        return
    *body, last = path.read_bytes().splitlines(keepends=True)
    footer = {
        **counted(Counter(line["kind"] for line in lines[:-1])),
        "verdict": report["verdict"],
        "digest": report["digest"],
        "lines_sha256": hashlib.sha256(b"".join(body)).hexdigest(),
    }
    if last != stream_line("footer", footer).encode("ascii"):
        yield f"{path}: its last line is not what its other lines and the report make of it; one of them was changed"
    if {line.get("sha") for line in lines if line["kind"] == "recording"} != set(report["recordings"]):
        yield f"{path}: its recordings are not the report's"


def _views(folder: Path, report: dict[str, Any]) -> Iterator[str]:
    from m0_conformance.report import exports  # noqa: PLC0415 - jinja2 is only needed here

    names = ["html", "junit", "md", "badge"]
    with tempfile.TemporaryDirectory() as fresh:
        for made in exports.write(report, folder, names, output=Path(fresh)):
            kept = folder / Path(made).name
            if not kept.exists():
                continue  # a report may be handed on without its views
            if kept.read_bytes() != Path(made).read_bytes():
                yield f"{kept}: not what this suite renders from report.json"


def _strangers(folder: Path) -> Iterator[str]:
    known = {
        REPORT,
        STREAM,
        TRANSCRIPTS,
        SCRIPTS,
        "report.html",
        "junit.xml",
        "summary.md",
        "badge.svg",
        "doctor",
        LIST,
    }
    for path in sorted(folder.iterdir()):
        if path.name not in known:
            yield f"{path}: no part of a report"
    for path in sorted((folder / SCRIPTS).glob("*")):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            yield f"{path}: no script ({error})"


def _judged(folder: Path, report: dict[str, Any]) -> Iterator[str]:
    try:
        outcome = judge_again(folder, report)
    except StoreError as error:
        yield str(error)
        return
    before, after = statuses(report), statuses(outcome.report)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{name}: the report says {before.get(name, 'nothing')}, its recordings {after.get(name, 'nothing')}"
    if outcome.verdict != report["verdict"]:
        yield f"the report says {report['verdict']}, its recordings {outcome.verdict}"
