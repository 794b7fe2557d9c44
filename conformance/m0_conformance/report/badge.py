"""A badge that says the verdict and its profile, and no percentage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import escape

if TYPE_CHECKING:
    from m0_conformance.report.document import Report

_LABEL = "M0 conformance"
_MESSAGE = {
    "CONFORMANT": "conformant",
    "NON_CONFORMANT": "non-conformant",
    "PARTIAL": "partial",
    "INCONCLUSIVE": "inconclusive",
}
# White text on each keeps a contrast of at least 4.5 : 1.
_COLOUR = {"CONFORMANT": "#176b36", "NON_CONFORMANT": "#b3221b", "PARTIAL": "#855300", "INCONCLUSIVE": "#1f5794"}
_WIDTHS = {**dict.fromkeys("ijlt.:'| ", 4.0), **dict.fromkeys("frs-", 5.6), **dict.fromkeys("mwMW", 10.4)}
_PADDING = 7


def render_badge(report: Report) -> str:
    """An SVG of 20 px height without fonts or links of its own."""
    message = f"{report['profile']}: {_MESSAGE[report['verdict']]}"
    left, right = _width(_LABEL), _width(message)
    total = left + right
    colour = _COLOUR[report["verdict"]]
    name = escape(f"{_LABEL}, {message}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="20" role="img" aria-label="{name}">'
        f"<title>{name}</title>"
        f'<clipPath id="r"><rect width="{total}" height="20" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#3a3f47"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f"{_text(_PADDING, left, _LABEL)}{_text(left + _PADDING, right, message)}</g></svg>\n"
    )


def _text(x: int, width: int, text: str) -> str:
    return f'<text x="{x}" y="14" textLength="{width - 2 * _PADDING}">{escape(text)}</text>'


def _width(text: str) -> int:
    """Pixels at 11 px in Verdana, near enough: textLength stretches the rest."""
    return round(sum(_WIDTHS.get(character, 7.2) for character in text)) + 2 * _PADDING
