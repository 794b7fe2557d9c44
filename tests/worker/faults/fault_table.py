"""The fault table: each row is made by the test that it stands above. `python fault_table.py` writes the page.

The page is docs/worker-service.md; `test_page.py` holds it to these rows.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "worker-service.md"
BEGIN, END = (
    "<!-- fault table: written by tests/worker/faults/fault_table.py -->\n",
    "<!-- end of the fault table -->\n",
)
Test = TypeVar("Test", bound="Callable[..., Any]")


class Row(NamedTuple):
    phase: str
    fault: str
    outcome: str
    test: str


ROWS: list[Row] = []


def fault(phase: str, what: str, outcome: str) -> Callable[[Test], Test]:
    """The row that a test makes."""

    def register(test: Test) -> Test:
        ROWS.append(Row(phase, what, outcome, test.__name__))
        return test

    return register


def table() -> str:
    """All rows, as the page shows them."""
    for path in sorted(HERE.glob("test_*_faults.py")):
        import_module(path.stem)
    phases = ["command line", "start-up", "connection", "request", "waiting", "generating", "log", "model file"]
    phases += ["callback", "recording", "shutdown"]
    lines = ["| phase | fault | outcome |", "|---|---|---|"]
    lines += [
        f"| {row.phase} | {row.fault} | {row.outcome} |" for phase in phases for row in ROWS if row.phase == phase
    ]
    assert len(lines) == len(ROWS) + 2, "a phase that the table does not know"
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.modules["fault_table"] = sys.modules["__main__"]
    sys.path[:0] = [str(HERE), str(HERE.parent / "service")]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
