"""Where requests go, a worker that the suite started, and the ways in which a check may have no target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Launch
    from m0_conformance.targets.process import WorkerProcess


class HarnessError(Exception):
    """The suite itself failed: ERROR, exit 3, never blamed on the target."""


class NotExercised(Exception):  # noqa: N818 - an outcome, not an error
    """The situation did not come about (a lost race, no such character): NOT_TESTED with this reason."""


class OutOfReach(NotExercised):
    """This kind of target cannot show it: NOT_TESTED, but no hole where another check saw the clause."""


class Blocked(Exception):  # noqa: N818 - an outcome, not an error
    """No usable worker for this check: BLOCKED with this reason, and with the launch that failed."""

    def __init__(self, reason: str, launch: Launch | None = None) -> None:
        super().__init__(reason)
        self.launch = launch


@dataclass(slots=True)
class Target:
    """Where requests go."""

    address: tuple[str, int]
    process: WorkerProcess | None = None
    probe: dict[str, Any] | None = None
    """The probe model's facts; None when the model is not ours."""
    model: str = ""


@dataclass(slots=True)
class Worker(Target):
    """A worker the check started itself."""

    label: str = ""
    argv: list[str] = field(default_factory=list)

    @property
    def running_process(self) -> WorkerProcess:
        """Its process. Raises HarnessError when there is none."""
        if self.process is None:
            raise HarnessError(f"worker {self.label} has no process")
        return self.process

    async def signal(self, name: str) -> None:
        """Send "SIGTERM", "SIGINT", "SIGKILL", "SIGSTOP", …; recorded with its time."""
        self.running_process.send_signal(name)

    async def exited(self, within: float = 10.0) -> int | None:
        """Wait for the exit: its code (negative: killed by that signal), or None when it still runs."""
        return await self.running_process.exited(within)

    async def line(self, wanted: str, within: float = 10.0) -> bool:
        """Wait until an output line holds this text."""
        return await self.running_process.line(wanted, within)
