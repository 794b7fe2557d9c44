"""Arrival times drawn: a steady stream is a staircase, a replayed one a cliff, a stalled one a plateau.

One lane per exchange or process on the recording's clock. The lane in question is tall: its filled curve counts what
has arrived by then, ticks below mark each arrival. The others are thin, so that a /cancel or a /health poll in the
middle of a stream is seen in its place. Plain inline SVG without text or style: it stretches to any width and prints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from m0_conformance.report.text import duration

if TYPE_CHECKING:
    from m0_conformance.report.shown import Shown, ShownRecording

WIDTH = 1000
"""User units across; the drawing is stretched to the page."""
TALL, THIN = 72, 16
_RUG = 12
_MAX_LANES = 6
_MAX_POINTS = 400
_LEAST_SPAN = 0.001


@dataclass(frozen=True, slots=True)
class Lane:
    """One drawn line of time."""

    title: str
    subtitle: str
    count: int
    """Exchanges of this name drawn in it."""
    svg: Markup
    focus: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """Lanes over one axis."""

    lanes: list[Lane]
    axis: list[str]
    """Labels of equal divisions, first is the start of the lane in question."""
    caption: str
    moments: str
    """What the dashed lines are, '' without any."""
    left_out: int
    """Overlapping lanes that were not drawn."""


@dataclass(frozen=True, slots=True)
class _Scale:
    """From seconds on the recording's clock to user units."""

    zero: float
    span: float

    def __call__(self, at: float) -> int:
        return round(WIDTH * (at - self.zero) / self.span)


def draw(recording: ShownRecording, focus: Shown, mark_at: float | None = None) -> Timeline:
    """Draw one exchange or process and whatever overlaps it.

    Args:
        recording: where the other lanes come from.
        focus: the part drawn tall; the axis begins at its start and ends after its end.
        mark_at: the place of a finding, seconds since `focus` began.
    """
    divisions, step = nice_axis(max(focus.span, _LEAST_SPAN))
    scale = _Scale(focus.start, divisions * step)
    others: dict[tuple[str, str], list[Shown]] = {}
    for part in [*recording.parts, *recording.background]:
        if part is not focus and part.start <= focus.start + scale.span and part.end >= focus.start:
            others.setdefault((part.title, part.subtitle), []).append(part)
    groups = list(others.values())
    lanes = [Lane(focus.title, focus.subtitle, 1, _tall(focus, scale, divisions, mark_at), focus=True)]
    lanes += [
        Lane(group[0].title, group[0].subtitle, len(group), _thin(group, scale, divisions), focus=False)
        for group in groups[:_MAX_LANES]
    ]
    return Timeline(
        lanes=lanes,
        axis=[duration(step * n) for n in range(divisions + 1)],
        caption=" · ".join(focus.facts),
        moments=", ".join(f"{name} {duration(at)}" for at, name in focus.marks),
        left_out=sum(len(group) for group in groups[_MAX_LANES:]),
    )


def nice_axis(span: float) -> tuple[int, float]:
    """(divisions, seconds each): 3 to 6 round divisions that cover `span` > 0."""
    power = 10.0 ** math.floor(math.log10(span))
    for factor in (0.2, 0.25, 0.5, 1.0, 2.0):
        step = factor * power
        divisions = math.ceil(span / step - 1e-9)
        if divisions <= 6:
            return max(divisions, 1), step
    raise AssertionError("unreachable: two decades hold five steps of at most six divisions")


def _tall(part: Shown, scale: _Scale, divisions: int, mark_at: float | None) -> Markup:
    top, floor = 6, TALL - _RUG
    inner = _grid(divisions, TALL)
    start, end = scale(part.start), scale(part.end)
    first = scale(part.start + part.arrivals[0]) if part.arrivals else end
    inner += Markup('<rect class="wait" x="{}" y="{}" width="{}" height="{}"/>').format(
        start, top, max(first - start, 0), floor - top
    )
    inner += _staircase(part, scale, top, floor, end)
    inner += Markup('<path class="life" d="M{} {}H{}"/>').format(start, floor, end)
    inner += Markup('<path class="rug" d="{}"/>').format(_ticks(part, scale, floor + 2, _RUG - 3))
    inner += Markup('<path class="close" d="M{} {}v{}"/>').format(end, top, TALL - top)
    for at, name in part.marks:
        inner += _moment(scale(part.start + at), TALL, name, at)
    if mark_at is not None:
        inner += Markup('<path class="fault" d="M{} 0v{}"/>').format(scale(part.start + mark_at), TALL)
    summary = f"{part.title} {part.subtitle}: " + ", ".join(part.facts)
    if mark_at is not None:
        summary += f"; the finding is at {duration(mark_at)}"
    return _svg(inner, TALL, summary, part, scale)


def _thin(parts: list[Shown], scale: _Scale, divisions: int) -> Markup:
    """Exchanges of one name in one lane: a block for each, from its start to its end."""
    inner = _grid(divisions, THIN)
    for part in parts:
        inner += Markup('<rect class="span" x="{}" y="3" width="{}" height="10"/>').format(
            scale(part.start), max(scale(part.end) - scale(part.start), 3)
        )
        inner += Markup('<path class="rug" d="{}"/>').format(_ticks(part, scale, 3, 10))
        for at, name in part.marks:
            if name != "headers":
                inner += _moment(scale(part.start + at), THIN, name, at)
    first = parts[0]
    label = (
        f"{len(parts)} times {first.title} {first.subtitle}" if len(parts) > 1 else f"{first.title} {first.subtitle}"
    )
    return _svg(inner, THIN, f"{label}, {duration(first.start - scale.zero)} after the start", first, scale)


def _moment(x: int, height: int, name: str, at: float) -> Markup:
    return Markup('<path class="moment" d="M{} 0v{}"><title>{} {}</title></path>').format(x, height, name, duration(at))


def _svg(inner: Markup, height: int, summary: str, part: Shown, scale: _Scale) -> Markup:
    points = part.arrivals if len(part.arrivals) <= _MAX_POINTS else []
    return Markup(
        '<svg class="lane-svg" viewBox="0 0 {w} {h}" height="{h}" preserveAspectRatio="none" '
        'role="img" aria-label="{label}" '
        'data-span="{span}" data-offset="{offset}" data-noun="{noun}" data-at="{at}">{inner}</svg>'
    ).format(
        w=WIDTH,
        h=height,
        label=summary,
        span=f"{scale.span * 1e3:.4g}",
        offset=f"{(part.start - scale.zero) * 1e3:.4g}",
        noun=part.noun,
        at=" ".join(f"{at * 1e3:.5g}" for at in points),
        inner=inner,
    )


def _grid(divisions: int, height: int) -> Markup:
    lines = "".join(f"M{round(WIDTH * n / divisions)} 0v{height}" for n in range(1, divisions))
    return Markup('<path class="grid" d="{}"/>').format(lines)


def _staircase(part: Shown, scale: _Scale, top: int, floor: int, end: int) -> Markup:
    """Area under the count of arrivals: every step right waits, every step up is an arrival."""
    total = len(part.arrivals)
    if not total:
        return Markup("")
    steps, level = [], floor
    for number, at in enumerate(part.arrivals, 1):
        height = round(floor - (floor - top) * number / total)
        if height != level:
            steps.append(f"H{scale(part.start + at)}V{height}")
            level = height
    first = scale(part.start + part.arrivals[0])
    return Markup('<path class="stair" d="M{} {}{}H{}V{}Z"/>').format(first, floor, "".join(steps), end, floor)


def _ticks(part: Shown, scale: _Scale, top: int, height: int) -> str:
    places = {x for at in part.arrivals if 0 <= (x := scale(part.start + at)) <= WIDTH}
    return "".join(f"M{x} {top}v{height}" for x in sorted(places))
