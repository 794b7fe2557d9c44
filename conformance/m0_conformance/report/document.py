"""Reading, checking and sealing report.json; reading the NDJSON that a run leaves behind.

A report is refused when it cannot be trusted: the run never finished, the digest does not match, the document breaks
its schema, or a newer suite wrote it. Every refusal is one sentence that names the file, what is wrong and what to do.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

from jsonschema import Draft202012Validator

Report: TypeAlias = dict[str, Any]
"""report.json as JSON values; `report.schema.json` says what it holds."""

SCHEMA_VERSION = 1
REPORT_NAME = "report.json"
STREAM_SUFFIX = ".ndjson"
_SHOWN_PROBLEMS = 5


class ReportError(Exception):
    """A report that cannot be used; the message is meant for people."""


class UnreadableReportError(ReportError):
    """No such file, or not JSON, or JSON that is no report."""


class UnknownVersionError(ReportError):
    """Another schema_version than the one this suite reads."""


class InvalidReportError(ReportError):
    """The document breaks its schema or contradicts itself."""


class WrongDigestError(ReportError):
    """The document was changed after it was sealed."""


class TruncatedRunError(ReportError):
    """The run's NDJSON has no footer, or a footer that counts more lines than there are."""


def canonical(report: Report) -> bytes:
    """Canonical JSON of everything but the digest: sorted keys, no blanks, ASCII with escapes."""
    body = {key: value for key, value in report.items() if key != "digest"}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def digest(report: Report) -> str:
    """'sha256:' and 64 hexadecimal digits over `canonical`."""
    return "sha256:" + hashlib.sha256(canonical(report)).hexdigest()


def seal(report: Report) -> Report:
    """The same report with its digest.

    Raises:
        InvalidReportError: it breaks the schema or contradicts itself; nothing invalid leaves the suite.
    """
    sealed = {**report, "digest": digest(report)}
    _refuse_invalid(sealed, "the report")
    return sealed


def write_report(report: Report, path: Path) -> Report:
    """Seal the report, write it to `path` and return it as written."""
    sealed = seal(report)
    text = json.dumps(sealed, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")
    return sealed


def read_report(path: Path) -> Report:
    """Read and check a report.

    Args:
        path: report.json, or the folder that holds it.

    Raises:
        UnreadableReportError, UnknownVersionError, InvalidReportError, WrongDigestError, TruncatedRunError.
    """
    if path.is_dir():
        path = _report_in(path)
    if path.suffix == STREAM_SUFFIX:
        read_stream(path)  # says so when the run was cut short
        raise UnreadableReportError(f"{path} is the record of a run, not its report: give {REPORT_NAME} beside it")
    report = _load(path)
    version = report.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise UnknownVersionError(
            f"{path} has schema_version {version!r}; this suite reads {SCHEMA_VERSION}: use the suite that wrote it"
        )
    _refuse_invalid(report, str(path))
    if report["digest"] != (found := digest(report)):
        raise WrongDigestError(
            f"{path} was changed after the run: its digest says {report['digest'][:19]}…, its content gives "
            f"{found[:19]}…; run the suite again, or rejudge the stored recordings"
        )
    return report


def read_stream(path: Path) -> list[dict[str, Any]]:
    """Read a finished run's NDJSON: header first, footer last.

    Raises:
        UnreadableReportError: a line is no JSON object with a `kind`.
        TruncatedRunError: no header, no footer, or the footer's counts do not match.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableReportError(f"{path} cannot be read: {error}") from error
    lines: list[dict[str, Any]] = []
    rows = text.removesuffix("\n").split("\n") if text.strip() else []
    for number, row in enumerate(rows, 1):
        try:
            value = json.loads(row)
        except ValueError as error:
            if number == len(rows):
                raise TruncatedRunError(f"{path} stops in the middle of line {number}: {_CUT_SHORT}") from error
            raise UnreadableReportError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
            raise UnreadableReportError(f"{path}, line {number} is no object with a 'kind'")
        lines.append(value)
    if not lines or lines[0]["kind"] != "header":
        raise TruncatedRunError(f"{path} has no header: {_CUT_SHORT}")
    if lines[-1]["kind"] != "footer":
        raise TruncatedRunError(f"{path} has no footer after its {len(lines)} lines: {_CUT_SHORT}")
    counts = Counter(line["kind"] for line in lines)
    footer = lines[-1]
    for kind in ("recording", "finding", "check"):
        promised = footer.get(f"{kind}s")
        if isinstance(promised, int) and promised != counts[kind]:
            raise TruncatedRunError(
                f"{path} holds {counts[kind]} {kind} lines, its footer counts {promised}: {_CUT_SHORT}"
            )
    return lines


def problems(report: Report) -> list[str]:
    """What is wrong with a report, one line each; empty when nothing is."""
    found = [
        f"{error.json_path}: {_short(error.message)}"
        for error in sorted(_validator().iter_errors(report), key=lambda error: error.json_path)
    ]
    return found or _contradictions(report)


_CUT_SHORT = "the run was cut short and proves nothing; run the suite again"


def _report_in(folder: Path) -> Path:
    if (folder / REPORT_NAME).exists():
        return folder / REPORT_NAME
    for stream in sorted(folder.glob(f"*{STREAM_SUFFIX}")):
        read_stream(stream)
        raise UnreadableReportError(f"{folder} holds a finished run but no {REPORT_NAME}: rejudge it")
    raise UnreadableReportError(f"{folder} holds no {REPORT_NAME}")


def _load(path: Path) -> Report:
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise UnreadableReportError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableReportError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadableReportError(f"{path} is JSON but no report: it holds a {type(value).__name__}")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON Schema that ships with the suite; do not change the returned dict."""
    value = json.loads(Path(__file__).with_name("report.schema.json").read_text(encoding="utf-8"))
    return copy.deepcopy(dict(value))


@functools.cache
def _validator() -> Draft202012Validator:
    whole = schema()
    return Draft202012Validator(_inlined({key: whole[key] for key in whole if key != "$defs"}, whole["$defs"]))


def _inlined(node: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its references replaced by what they name: looking them up takes longer than all the rest."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    rest = {key: _inlined(value, definitions) for key, value in node.items() if key != "$ref"}
    if not isinstance(node.get("$ref"), str):
        return rest
    named = _inlined(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    return {**rest, "allOf": [named, *rest.get("allOf", [])]} if rest else named


def _refuse_invalid(report: Report, name: str) -> None:
    if found := problems(report):
        more = f" (and {len(found) - _SHOWN_PROBLEMS} more)" if len(found) > _SHOWN_PROBLEMS else ""
        raise InvalidReportError(f"{name} is no valid report: " + "; ".join(found[:_SHOWN_PROBLEMS]) + more)


def _contradictions(report: Report) -> list[str]:
    """What a schema cannot say: unique IDs, counts that add up, findings whose recording is listed."""
    requirements = report["requirements"]
    clauses = [clause for requirement in requirements for clause in requirement["clauses"]]
    found = [f"{name} appears twice" for name, n in Counter(r["id"] for r in requirements).items() if n > 1]
    found += [f"{name} appears twice" for name, n in Counter(c["id"] for c in clauses).items() if n > 1]
    found += [
        f"{clause['id']} stands under {requirement['id']}"
        for requirement in requirements
        for clause in requirement["clauses"]
        if clause["id"].split("/")[0] != requirement["id"]
    ]
    statuses = {status: n for status, n in report["summary"]["by_status"].items() if n}
    counted = Counter(r["status"] for r in requirements)
    if statuses != dict(counted):
        found.append(f"summary.by_status is {statuses}, the requirements give {dict(counted)}")
    dispositions = {name: n for name, n in report["summary"]["by_disposition"].items() if n}
    counted = Counter(c["disposition"] for c in clauses)
    if dispositions != dict(counted):
        found.append(f"summary.by_disposition is {dispositions}, the clauses give {dict(counted)}")
    known = report["recordings"]
    found += [
        f"{clause['id']} points to recording {sha[:12]}, which is not listed"
        for clause in clauses
        for sha in [*clause["evidence"]["sha"], *(f["transcript"] for f in clause["findings"] if f["transcript"])]
        if sha not in known
    ]
    return found


def _short(message: str, limit: int = 160) -> str:
    return message if len(message) <= limit else message[: limit - 1] + "…"
