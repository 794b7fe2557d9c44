"""Short ones of both; `nox -s soak` and `nox -s storm` run them in full."""

from __future__ import annotations

import soak
import storm


def test_a_short_soak_holds() -> None:
    report = soak.soak(8)
    # Eight seconds are no time to tell growth from warm-up: that is judged by the long one.
    assert [each for each in report.problems if not each.startswith("memory")] == []
    assert set(report.client) >= {"success", "cancelled", "disconnected", "rejected"}


def test_a_short_storm_holds() -> None:
    report = storm.storm(400)
    assert report.problems == []
    assert {"200", "400", "431"} <= set(report.statuses)


def test_a_soak_tells_what_is_wrong() -> None:
    fine = soak.Report(1.0, {"success": 2}, {"success": 2}, {"success": 2}, 0, [], 0, 0)
    assert fine.problems == []
    wrong = [
        fine._replace(lost=1),
        fine._replace(log={"success": 1}),
        fine._replace(growth=6_000_000),
        fine._replace(exit_code=1),
        fine._replace(unexpected=["x"]),
    ]
    assert [len(each.problems) for each in wrong] == [1] * 5


def test_a_storm_tells_what_is_wrong() -> None:
    fine = storm.Report(1, 1.0, {"200": 1, "503": 1}, True, False, 0, 0, "")
    assert fine.problems == []
    wrong = [
        fine._replace(statuses={"500": 1}),
        fine._replace(canary_same=False),
        fine._replace(wedged=True),
        fine._replace(growth=21_000_000),
        fine._replace(errors="Traceback"),
    ]
    assert [len(each.problems) for each in wrong] == [1] * 5
