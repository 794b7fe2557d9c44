"""The page shows the fault table, all of it, as the tests make it."""

from __future__ import annotations

from fault_table import BEGIN, END, PAGE, ROWS, table


def test_the_page_shows_the_rows_of_the_tests() -> None:
    shown = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert shown == table(), "write it anew: python tests/worker/faults/fault_table.py"


def test_there_are_enough_rows_and_each_is_one() -> None:
    table()
    assert len(ROWS) >= 30
    assert len({(row.phase, row.fault) for row in ROWS}) == len({row.test for row in ROWS}) == len(ROWS)
