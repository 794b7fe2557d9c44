"""When a job comes: its turn in the worker's life, what came before, who else is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.conditions.grid import level

if TYPE_CHECKING:
    from m0_conformance.conditions.scene import Scene

REPEATS = ("M0-SYS-2.3.1/greedy-repeat", "M0-W-1826/identical-tokens")
"""Clauses about one job that comes again."""
MEETS = ("M0-W-1301/solo-equal", "M0-W-1301/second-answered")


@level("turn", "first", clauses=(*REPEATS, "M0-SYS-2.3.1/after-restart"))
def turn_first(scene: Scene) -> bool:
    """It is the worker's first job."""
    return scene.past.jobs == 0


@level("turn", "second", clauses=REPEATS)
def turn_second(scene: Scene) -> bool:
    """It is the worker's second job."""
    return scene.past.jobs == 1


@level("turn", "later", clauses=REPEATS)
def turn_later(scene: Scene) -> bool:
    """It is the worker's third job or a later one."""
    return scene.past.jobs >= 2


@level("after", "cancel", clauses=("M0-W-1330/next-job", *REPEATS))
def after_cancel(scene: Scene) -> bool:
    """The job before was cancelled."""
    return scene.past.last == "cancel"


@level("after", "disconnect", clauses=("M0-W-1301/after-disconnect", *REPEATS))
def after_disconnect(scene: Scene) -> bool:
    """The client of the job before hung up."""
    return scene.past.last == "disconnect"


@level("after", "refusal", clauses=("M0-W-1302/next-unaffected", *REPEATS))
def after_refusal(scene: Scene) -> bool:
    """The job before was refused."""
    return scene.past.last == "refusal"


@level("after", "error", clauses=("M0-W-1825/recovers", *REPEATS))
def after_error(scene: Scene) -> bool:
    """The job before ended with an error that was no cancel."""
    return scene.past.last == "error"


@level("after", "stop", clauses=REPEATS)
def after_stop(scene: Scene) -> bool:
    """A stop string ended the job before."""
    return scene.past.last == "stop"


@level("company", "alone", usual=True)
def company_alone(scene: Scene) -> bool:
    """No other job was there when it came."""
    return scene.ahead == 0


@level("company", "waited", clauses=MEETS)
def company_waited(scene: Scene) -> bool:
    """Another job was there when it came."""
    return scene.ahead >= 1


@level("company", "waited-in-line", clauses=MEETS)
def company_waited_in_line(scene: Scene) -> bool:
    """Three others or more were there when it came."""
    return scene.ahead >= 3


@level("company", "one-behind", "company", clauses=MEETS)
def company_one_behind(scene: Scene) -> bool:
    """Another job waits behind it."""
    return scene.behind >= 1


@level("company", "three-behind", "company", clauses=MEETS)
def company_three_behind(scene: Scene) -> bool:
    """Three other jobs wait behind it."""
    return scene.behind >= 3
