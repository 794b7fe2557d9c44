"""Results as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parity.ladder import TITLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parity.rungs.base import Row


def number(value: float) -> str:
    """A measured value or bound: whole numbers plainly, others with two figures."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.1e}"


def line(row: Row) -> str:
    """One row."""
    if not row.ran:
        return f"  {'--':4} {row.rung:3} {row.label:34} {row.note}"
    verdict = "ok" if row.passed else "FAIL"
    measured = "inf" if row.measured == float("inf") else number(row.measured)
    return f"  {verdict:4} {row.rung:3} {row.label:34} {measured:>8} <= {number(row.bound):<8} {row.note}"


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
    verdict = "equal within every bound" if not failed else f"{len(failed)} rows out of bounds"
    return "\n".join([*lines, "", f"{verdict} ({seconds:.0f} s)"])
