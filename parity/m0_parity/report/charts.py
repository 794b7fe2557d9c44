"""Margins against differences as inline SVG: which flips of the first choice a near tie explains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from m0_parity.report.view import EXPLAINED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Point = tuple[int, float, float, bool]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 520, 300, 58, 12, 12, 42
_MOST_POINTS: Final = 160


def margins(choice: dict[str, Any]) -> Markup:
    """Margin (across) against difference (up), both logarithmic; flips are crosses, the line is what explains them."""
    flipped = {flip["row"] for flip in choice["flips"]}
    points: list[Point] = [
        (position, margin, rms, row in flipped)
        for row, (position, margin, rms) in enumerate(
            zip(choice["positions"], choice["margins"], choice["rms"], strict=True)
        )
    ]
    shown = _thinned(points)
    xs, ys = _decades(point[1] for point in shown), _decades(point[2] for point in shown)

    def x(power: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (power - xs[0]) / (xs[1] - xs[0])

    def y(power: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * (power - ys[0]) / (ys[1] - ys[0])

    opening = (
        f'<svg class="scatter" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-label="Margin of the first choice '
        f'against the difference of the logits at {len(points)} positions, {len(flipped)} of them flips">'
    )
    parts = [opening]
    low, floor = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM + 14
    for power in _ticks(*xs):
        at = f"{x(power):.1f}"
        parts.append(f'<line class="mesh" x1="{at}" x2="{at}" y1="{_TOP}" y2="{low}"/>')
        parts.append(f'<text class="tick" x="{at}" y="{floor}" text-anchor="middle">{_name(power)}</text>')
    for power in _ticks(*ys):
        at = f"{y(power):.1f}"
        parts.append(f'<line class="mesh" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{y(power) + 4:.1f}" text-anchor="end">{_name(power)}</text>'
        )
    parts.append(_border(xs, ys, x, y))
    for position, margin, rms, flip in sorted(shown, key=lambda point: point[3]):
        a, b = x(_log(margin, xs[0])), y(_log(rms, ys[0]))
        told = f"position {position}: margin {margin:.3g}, difference {rms:.2g}{', flipped' if flip else ''}"
        mark = (
            f'<path class="flip" d="M{a - 4:.1f} {b - 4:.1f}l8 8m0 -8l-8 8">'
            if flip
            else f'<circle class="kept" cx="{a:.1f}" cy="{b:.1f}" r="2.5">'
        )
        parts.append(f"{mark}<title>{told}</title></{'path' if flip else 'circle'}>")
    across, up = (_LEFT + _WIDTH) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text class="axis" x="{across}" y="{_HEIGHT - 6}" text-anchor="middle">margin of the reference</text>'
        f'<text class="axis" transform="translate(12 {up}) rotate(-90)" text-anchor="middle">'
        "difference of the logits (rms)</text></svg>"
    )
    return Markup("".join(parts))  # noqa: S704  # numbers only


def _border(xs: tuple[int, int], ys: tuple[int, int], x: Any, y: Any) -> str:
    """The line margin = EXPLAINED x difference, as far as it lies in the picture."""
    shift = math.log10(EXPLAINED)
    low, high = max(xs[0], ys[0] + shift), min(xs[1], ys[1] + shift)
    if low >= high:
        return ""
    return (
        f'<line class="explains" x1="{x(low):.1f}" y1="{y(low - shift):.1f}" '
        f'x2="{x(high):.1f}" y2="{y(high - shift):.1f}"/>'
    )


def _thinned(points: Sequence[Point]) -> list[Point]:
    """All flips, and of the rest as many as an eye can tell apart."""
    kept = [point for point in points if not point[3]]
    return [*kept[:: max(1, math.ceil(len(kept) / _MOST_POINTS))], *(point for point in points if point[3])]


def _decades(values: Iterable[float]) -> tuple[int, int]:
    logs = [math.log10(value) for value in values if value > 0]
    low, high = (math.floor(min(logs)), math.ceil(max(logs))) if logs else (-1, 0)
    return low, max(high, low + 1)


def _ticks(low: int, high: int) -> range:
    return range(low, high + 1, max(1, (high - low) // 6))


def _log(value: float, least: int) -> float:
    return math.log10(value) if value > 0 else least


def _name(power: int) -> str:
    return {0: "1", 1: "10", -1: "0.1"}.get(power, f"1e{power}")
