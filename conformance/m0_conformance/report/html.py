"""One self-contained HTML page from a report: no network, no font, no script but its own.

The page carries a content security policy that names the digests of its one script and one style sheet, so a worker
that manages to smuggle markup through two layers of escaping still runs nothing. All text passes `visible` before it is
escaped: what a worker sent is shown, never obeyed.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from m0_conformance.recording.redact import redact_json
from m0_conformance.report import view
from m0_conformance.report.context import Limits, PageContext
from m0_conformance.report.evidence import Store, embed, within
from m0_conformance.report.text import duration, visible
from m0_conformance.report.view import plural

if TYPE_CHECKING:
    from m0_conformance.report.document import Report

_PAGE = Path(__file__).parent / "page"
MAX_BYTES = 3_000_000
"""A page above this is rendered again with tighter limits."""
_ID = re.compile(r"(M0-(?:W|SYS)-[0-9.]*[0-9](?:/[a-z0-9-]+)?)")
_BAR_ORDER = ("PASS", "INFO", "WARN", "INCONCLUSIVE", "BLOCKED", "ERROR", "FAIL", "NOT_TESTED", "NA")


def render_html(report: Report, store: Store | None = None, *, limits: Limits | None = None) -> str:
    """The page as text; write it as UTF-8.

    Args:
        report: a checked report.
        store: where recordings come from; without one the page shows findings without transcripts and timelines.
        limits: how much to show; by default as much as fits `MAX_BYTES`.
    """
    clean = redact_json({key: value for key, value in report.items() if key != "recordings"})
    clean["recordings"] = report["recordings"]
    chosen = limits or Limits()
    recordings = embed(report, store, budget=chosen.evidence) if store else []
    while True:
        shown = {recording.sha: recording for recording in within(recordings, chosen.evidence)}
        values = PageContext(clean, shown, chosen).values()
        page = _environment().get_template("report.html.j2").render(values, icon=_icon(report["verdict"]))
        if limits is not None or not chosen.findings or len(page.encode()) <= MAX_BYTES:
            return page
        chosen = chosen.tighter()


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole_ids"] = _whole_ids
    environment.globals.update(
        plural=plural,
        duration=duration,
        words=view.WORDS,
        disposition_words=view.DISPOSITION_WORDS,
        statuses=view.STATUSES,
        levels=view.LEVELS,
        bar_order=_BAR_ORDER,
        csp=_csp(),
        css=_asset("report.css"),
        js=_asset("report.js"),
    )
    return environment


def _whole_ids(text: str) -> Markup:
    """The text with its requirement and clause IDs kept from breaking at their hyphens."""
    parts = _ID.split(visible(text))
    return Markup("").join(
        Markup('<span class="whole">{}</span>').format(p) if n % 2 else p for n, p in enumerate(parts)
    )


def _finalize(value: Any) -> Any:
    """Runs on every printed value before escaping; markup of our own passes."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)


@functools.cache
def _asset(name: str) -> Markup:
    return Markup((_PAGE / name).read_text(encoding="utf-8"))  # noqa: S704 - our own file


def _csp() -> str:
    def digest(name: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; script-src {digest('report.js')}; style-src {digest('report.css')}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _icon(verdict: str) -> str:
    colour = {"CONFORMANT": "176b36", "NON_CONFORMANT": "b3221b", "PARTIAL": "855300", "INCONCLUSIVE": "1f5794"}[
        verdict
    ]
    circle = f"<circle cx='8' cy='8' r='8' fill='#{colour}'/>"
    drawing = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>{circle}</svg>"
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode()
