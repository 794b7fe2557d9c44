"""Results as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_parity.ladder import TITLES
from m0_parity.names import rank, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m0_parity.rungs.base import Row


def number(value: float) -> str:
    """A measured value or bound: whole numbers plainly, others with two figures."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.1e}"


def line(row: Row) -> str:
    """One row."""
    if not row.ran:
        return f"  {'--':4} {row.rung:3} {row.label:34} {row.note}"
    verdict = "ok" if row.passed else "FAIL"
    measured = "inf" if row.measured == float("inf") else number(row.measured)
    sign = "<=" if row.passed else "> "
    return f"  {verdict:4} {row.rung:3} {row.label:34} {measured:>8} {sign} {number(row.bound):<8} {row.note}"


def finding(row: Row) -> str:
    """The first divergence of a row, over several lines, for someone who has never seen one; "" where there is none."""
    found, all_of_it = row.divergence, row.comparison
    if found is None or all_of_it is None:
        return ""
    over = {cell.place for cell in all_of_it.exceeding(lambda _: row.bound)}
    before = [place for place in over if rank(place) < rank(found.place)]
    lines = [
        "",
        f"first divergence: {told(found.place)}, at position {found.position} of request {found.request!r}",
        f"  before it   {'small differences, within the bound' if not before else 'differences that add up'}",
        f"  there       NMSE {found.nmse:.1e}, allowed {number(row.bound)}",
        f"  alone       {found.local:.1e} when this one operation is given llama.cpp's own inputs: "
        + ("the mistake is made here" if found.confirmed else "the difference comes from before"),
        f"  looks like  {found.diagnosis}",
    ]
    if found.also:
        lines.append(f"  also wrong  {'; '.join(told(place) for place in found.also[:4])}")
    return "\n".join(lines)


def summary(rows: Sequence[Row], seconds: float) -> str:
    """What passed, by rung, and the verdict."""
    lines = [""]
    for rung in dict.fromkeys(row.rung for row in rows):
        of_rung = [row for row in rows if row.rung == rung]
        ran = [row for row in of_rung if row.ran]
        passed = sum(row.passed for row in ran)
        result = f"{passed} of {len(ran)}" if ran else "not tried"
        lines.append(f"{rung:8} {TITLES.get(rung, ''):62} {result}")
    failed = [row for row in rows if row.ran and not row.passed]
    missing = [what for row in rows for what in row.missing]
    verdict = (
        "equal within every bound"
        if not failed and not missing
        else f"no difference where both sides have something; not compared: {'; '.join(missing)}"
        if not failed
        else "not equal"
        if len(rows) == 1
        else f"{len(failed)} of {len(rows)} out of bounds"
    )
    return "\n".join([*lines, "", f"{verdict} ({seconds:.0f} s)"])
