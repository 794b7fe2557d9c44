"""Scripts: what clients did to a worker, as data, so that a generated failure can be repeated against any worker.

    {"script": 1, "check": "…", "steps": [{"do": "execute", "job": "a", "max_tokens": 8}, {"do": "tokens", "job": "a",
     "count": 2}, {"do": "cancel", "job": "a"}, {"do": "finish", "job": "a"}], "seen": [["M0-W-1330/accepts", "…"]]}

Steps: execute (and wait for its first token, so that what follows meets a running job, unless "at_once"), tokens (wait
for so many), cancel (of a job of the script, or of a name that no job has), leave (hang up, with a reset or politely),
finish (wait for the end), health. Jobs that no step finishes are waited for at the end.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from m0_conformance.judging.finding import Status
from m0_conformance.judging.job_model import CONTROL
from m0_conformance.judging.judge import evaluate
from m0_conformance.recording.belongings import claim
from m0_conformance.recording.store import SCRIPTS, RunStore, cleaned
from m0_conformance.run.situation import Situation
from m0_conformance.spec.registry import load_registry
from m0_conformance.spec.requirements import Disposition, Level

if TYPE_CHECKING:
    from collections.abc import Iterable

    from m0_conformance.judging.finding import Finding
    from m0_conformance.recording.transcript import Recording
    from m0_conformance.run.situation import LiveStream

Step: TypeAlias = dict[str, Any]
VERSION = 1
CONTROL_TOKENS = 48
"""Of the two jobs whose text every other is compared with."""
ATTEMPTS = 5
BEGIN_S = 0.2
"""A job that has said nothing for so long is waiting for its turn."""
WAIT_S = 10.0
"""For tokens that do not come."""
LIMIT_S = 30.0
"""For a job, its turn included."""


class ScriptError(ValueError):
    """A file that is no script of this version; the message says what is wrong."""


class Performer:
    """Does a script's steps in a situation, one at a time."""

    def __init__(self, situation: Situation, name: str = "script") -> None:
        self._situation = situation
        self._name = name
        self._jobs: dict[str, LiveStream] = {}
        situation.fact("model", value=True)

    async def controls(self) -> None:
        """The two jobs whose equal text everything else is compared with."""
        for _ in range(2):
            await self._situation.execute(CONTROL, max_tokens=CONTROL_TOKENS, temperature=0.0, within=LIMIT_S)

    async def do(self, step: Step) -> None:
        """One step. Raises ScriptError for one that it does not know."""
        what, name = step["do"], step.get("job", "")
        live = self._jobs.get(name)
        situation, wait = self._situation, WAIT_S * self._situation.scale
        if what == "execute":
            label = f"{self._name} {name}"
            fields = {"max_tokens": step["max_tokens"], "temperature": 0.0}
            self._jobs[name] = live = situation.start(label, within=LIMIT_S, **fields)
            if not step.get("at_once"):
                await live.tokens(1, BEGIN_S)
        elif what == "health":
            await situation.get(f"{self._name} health")
        elif what == "cancel":
            await situation.cancel(f"{self._name} cancel {name}", live.job_id if live is not None else f"no-job-{name}")
        elif live is None:
            raise ScriptError(f"step {step} names a job that no step before it started")
        elif what == "tokens":
            await live.tokens(step["count"], wait)
        elif what == "leave":
            await live.hang_up(reset=step.get("reset", False))
        elif what == "finish":
            await live.terminal(wait)
            await live.done()
        else:
            raise ScriptError(f"there is no step {what!r}")

    async def end(self) -> None:
        """Wait for every job that is still open."""
        for live in self._jobs.values():
            await live.done()


def failures(recording: Recording) -> list[Finding]:
    """What breaks a MUST in it."""
    clauses = load_registry().clauses
    return [
        finding
        for finding in evaluate(recording)
        if finding.status is Status.FAIL
        and (clause := clauses.get(finding.clause)) is not None
        and clause.level is Level.MUST
        and clause.status is Disposition.ACTIVE
    ]


def identity(steps: Iterable[Step]) -> str:
    """A script's name: the first digits of its SHA-256."""
    return hashlib.sha256(json.dumps(list(steps), sort_keys=True).encode()).hexdigest()[:12]


def write(folder: Path, check: str, steps: list[Step], found: Iterable[Finding]) -> Path:
    """Write repro/<id>.json; returns its path."""
    path = folder / SCRIPTS / f"{identity(steps)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    claim(folder, [f"{SCRIPTS}/{path.name}"])
    seen = sorted({(finding.clause, finding.key) for finding in found})
    path.write_text(json.dumps({"script": VERSION, "check": check, "steps": steps, "seen": seen}, indent=1) + "\n")
    return path


def read(data: bytes) -> dict[str, Any] | None:
    """A script; None for JSON that is something else. Raises ScriptError."""
    value = json.loads(data)
    if not isinstance(value, dict) or "script" not in value:
        return None
    if value["script"] != VERSION or not isinstance(value.get("steps"), list):
        raise ScriptError(f"a script of version {value['script']!r}; this suite repeats version {VERSION}")
    return value


async def repeat(script: dict[str, Any], url: str | None, command: str | None) -> Recording:
    """Do a script's steps against a worker, given by URL or started from a command; again when nothing shows.

    A history may hold a race, so that one quiet attempt proves little. Returns the first recording with a failure, or
    the last one. Raises ScriptError, Blocked.
    """
    from m0_conformance.run.harness import Harness  # noqa: PLC0415 - it opens sockets; judging a stored script needs none
    from m0_conformance.run.marks import DEFAULT_LAUNCH  # noqa: PLC0415 - the same
    from m0_conformance.run.options import RunOptions  # noqa: PLC0415 - the same
    from m0_conformance.run.session import make_target  # noqa: PLC0415 - the same

    options = RunOptions(worker_url=url, worker_command=command)
    program, address = make_target(options)
    with tempfile.TemporaryDirectory(prefix="m0-replay-") as folder, RunStore(Path(folder)) as store:
        harness = Harness(options, store, command=program, address=address)
        try:
            for attempt in range(ATTEMPTS):
                target = await harness.target_for(DEFAULT_LAUNCH)
                situation = Situation(harness, str(script.get("check", "replay")), (), target)
                performer = Performer(situation)
                await performer.controls()
                for step in script["steps"]:
                    await performer.do(step)
                await performer.end()
                recording = cleaned(await situation.finish())
                if attempt == ATTEMPTS - 1 or failures(recording):
                    break
            return recording
        finally:
            await harness.close()
