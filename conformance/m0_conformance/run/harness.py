"""What outlives one check: the models, the workers, the store. Lives in the run's only event loop."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import uuid
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m0_conformance.judging.judge import evaluate
from m0_conformance.recording.cause import KEPT, cause, ending
from m0_conformance.recording.client import Clock
from m0_conformance.recording.floor import measure_floor
from m0_conformance.recording.route import Route
from m0_conformance.recording.store import RunStore, cleaned
from m0_conformance.recording.transcript import Recording
from m0_conformance.run.calibration import Calibration
from m0_conformance.run.ladder import Ladder
from m0_conformance.run.marks import DEFAULT_LAUNCH
from m0_conformance.targets.callback import CallbackListener
from m0_conformance.targets.host import free_port, nvidia_device
from m0_conformance.targets.nvidia import used_now
from m0_conformance.targets.process import WorkerProcess
from m0_conformance.targets.target import Blocked, HarnessError, OutOfReach, Target, Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from m0_conformance.judging.finding import Finding
    from m0_conformance.recording.transcript import Json, Launch, Outcome
    from m0_conformance.run.marks import LaunchKey
    from m0_conformance.run.options import RunOptions
    from m0_conformance.targets.command import Command

RESTARTS = 3
"""How often a shared worker that died is started again before its group is BLOCKED."""


class Harness:
    """Everything that outlives one check."""

    def __init__(
        self, options: RunOptions, store: RunStore, *, command: Command | None, address: tuple[str, int] | None
    ) -> None:
        self.options = options
        self.store = store
        self.command = command
        self.address = address
        self.identity: dict[str, Json] = {}
        self.device: str | None = None
        self.calibration = Calibration()
        asked = command is not None and nvidia_device() is not None
        self.device_memory_before = used_now(options.gpu_device) if asked else None
        self.floor: list[float] = []
        self.recordings: dict[str, Recording] = {}
        self.findings: list[Finding] = []
        self.route = Route.parse(options.path, options.header)
        self.ladder = Ladder()
        self._callback = CallbackListener()
        self._models = Path(tempfile.mkdtemp(prefix="m0-models-"))
        self._made: dict[tuple[str, int], asyncio.Task[tuple[str, dict[str, Any] | None]]] = {}
        self._groups: dict[LaunchKey, asyncio.Task[Target]] = {}
        self._restarts: dict[LaunchKey, int] = {}
        self.deaths: list[str] = []
        """One sentence for each shared worker that ended by itself while it was in use."""
        self._ending: set[asyncio.Task[None]] = set()
        self._nonce = uuid.uuid4().hex[:8]
        self._jobs = 0

    # ---- small services ---------------------------------------------------------------------------------------

    def job_id(self) -> str:
        """A job_id not used before in this run."""
        self._jobs += 1
        return f"job-{self._nonce}-{self._jobs}"

    async def measure_floor(self) -> None:
        """Measure what the harness itself adds to every time."""
        self.floor = sorted(await measure_floor())

    @property
    def floor_us(self) -> float | None:
        """Median round trip of the harness's own loopback server, microseconds."""
        return round(self.floor[len(self.floor) // 2] * 1e6, 1) if self.floor else None

    def settings(self) -> dict[str, Json]:
        """What every recording says about the run."""
        return {
            "target": "url" if self.command is None else "command",
            "bundled": self.command is not None and self.command.bundled,
            "device": self.device,
            "floor_us": self.floor_us,
            "timing_scale": self.options.timing_scale,
            "disputes": self.options.disputes,
            "rendering": self.calibration.rendering.as_json(),
            "pace": self.calibration.as_json(),
            "probe": None,
        }

    # ---- models -----------------------------------------------------------------------------------------------

    async def model(self, name: str, rung: int | None = None) -> tuple[str, dict[str, Any] | None]:
        """Path and facts of a model: a probe's name, "KIND:NAME" (see `m0_models.named`), or an absolute path.

        `rung` is the form of a probe whose form is not what it tests: the one that was loaded first, unless given.

        Raises OutOfReach where the probe does not exist in that form.
        """
        if Path(name).is_absolute():
            return name, None
        key = name, self.ladder.rung if rung is None else rung
        if key not in self._made:
            self._made[key] = asyncio.create_task(asyncio.to_thread(self._write_model, *key))
        return await self._made[key]

    def _write_model(self, name: str, rung: int) -> tuple[str, dict[str, Any] | None]:
        folder = self._models / f"form-{rung}" if rung else self._models
        path = folder / f"{name.replace(':', '-')}.gguf"
        folder.mkdir(exist_ok=True)
        written: tuple[str, dict[str, Any] | None]
        try:
            written = import_module("m0_models.named").write(name, path, shape=self.options.likeness, rung=rung)
        except KeyError as error:
            raise HarnessError(str(error.args[0])) from error
        except ValueError as error:
            raise OutOfReach(f"no such model in this form: {error}") from error
        return written

    # ---- workers ----------------------------------------------------------------------------------------------

    async def launch(
        self,
        label: str,
        *,
        model: str,
        args: Sequence[str] = (),
        values: Mapping[str, str | None] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        rung: int | None = None,
    ) -> Worker:
        """Start a worker without waiting for it; `rung` as for `model`.

        Raises OutOfReach for a URL target and for what the command does not pass on, Blocked when there is no program.
        """
        if self.command is None:
            raise OutOfReach("needs --worker-command")
        for name in values or {}:
            if not self.command.passes(name):
                raise OutOfReach(f"the worker command has no {{{name}}}, so the worker never gets it")
        path, facts = await self.model(model, rung)
        port = free_port()
        arguments: dict[str, str | None] = {
            "worker_id": str(uuid.uuid4()),
            "model": path,
            "gpu_device": str(self.options.gpu_device),
            "port": str(port),
            **(values or {}),
        }
        if self.command.calls_back:
            arguments["callback_url"] = await self._callback.url()
        for name, value in arguments.items():
            if value is None and not self.command.can_omit(name):
                raise OutOfReach(f"this command cannot be run without {{{name}}}")
        argv = self.command.argv(arguments, args)
        chosen = arguments["port"] or ""
        port = int(chosen) if chosen.isdigit() and 0 < int(chosen) < 65536 else port
        try:
            process = await WorkerProcess.start(
                argv,
                label=label,
                port=port,
                model=model,
                env={**self.options.environment, **(env or {})},
                cwd=cwd,
                route=self.route,
            )
        except OSError as error:
            raise Blocked(f"cannot start {argv[0]}: {error.strerror}") from error
        return Worker(process.address, process, facts, model, label=label, argv=argv)

    def passes(self, name: str) -> bool:
        """Whether workers get this argument from us."""
        return self.command is not None and self.command.passes(name)

    def prestart(self, keys: Iterable[LaunchKey]) -> None:
        """Start the workers of groups that will be needed soon."""
        for key in keys:
            if self.command is not None and key not in self._groups:
                self._groups[key] = asyncio.create_task(self._start_group(key))

    async def target_for(self, key: LaunchKey) -> Target:
        """The shared worker of a group, or the URL. Raises Blocked when there is none that works."""
        if self.address is not None:
            return Target(self.address)
        while True:
            self.prestart([key])
            target = await self._groups[key]
            if target.process is not None and target.process.running:
                return target
            del self._groups[key]
            self._restarts[key] = self._restarts.get(key, 0) + 1
            self.deaths.append(_death(key, target))
            if self._restarts[key] > RESTARTS:
                raise Blocked(
                    f"the worker ({key.name}) ended by itself {RESTARTS + 1} times and was given up: {self.deaths[-1]}"
                )

    async def own_target(self, key: LaunchKey) -> Target:
        """A worker for one check alone, or the URL."""
        return Target(self.address) if self.address is not None else await self._start_group(key)

    async def _start_group(self, key: LaunchKey) -> Target:
        """A group's worker, with its probe in the first form that is loaded."""
        try:
            return await self._start(key)
        except Blocked as error:
            first = error
        default = self._groups.get(DEFAULT_LAUNCH)
        if key != DEFAULT_LAUNCH and default is not None:
            await asyncio.wait([default])  # it may have found a form meanwhile
            if default.cancelled() or default.exception() is not None:
                raise first
        last = first
        while last.launch is not None and last.launch.exit_code is not None:  # one that hangs is not tried again
            self.ladder.refuse(key.model, last)
            form = self.ladder.next(key.model, self.options.likeness, anywhere=key == DEFAULT_LAUNCH)
            if form is None:
                break
            try:
                worker = await self._start(key, form)
            except OutOfReach:  # the probe has no such form: nothing was refused
                self.ladder.refused.pop()
                continue
            except Blocked as another:
                last = another
            else:
                self.ladder.load(key.model, form, found=key == DEFAULT_LAUNCH)
                return worker
        raise first

    async def _start(self, key: LaunchKey, rung: int | None = None) -> Target:
        worker = await self.launch("worker", model=key.model, args=key.args, env=dict(key.env), rung=rung)
        process = worker.running_process
        within = self.options.start_timeout * self.options.timing_scale
        if not await process.ready(within):
            code = await process.exited(0.5)
            words = (
                f"ended before it was ready ({ending(code)})"
                if code is not None
                else f"did not answer GET /health within {within:g} s"
            )
            kept = process.snapshot(Clock())
            why = cause(kept.lines)
            kept.lines = kept.lines[-KEPT:]
            await process.stop()
            raise Blocked(f"the worker ({key.name}) {words}" + (f": {why}" if why else ""), kept)
        return worker

    def notes(self) -> dict[str, Json]:
        """What the report says about the workers themselves: other forms of probes, workers that ended."""
        found: dict[str, Json] = {}
        if sentences := self.ladder.sentences():
            found["probe_forms"] = sentences
        if self.deaths:
            found["workers_that_ended_by_themselves"] = [f"{len(self.deaths)}, started again each time", *self.deaths]
        return found

    def running_target(self, key: LaunchKey) -> Target | None:
        """The group's worker if it is up right now."""
        task = self._groups.get(key)
        if self.address is not None:
            return Target(self.address)
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        target = task.result()
        return target if target.process is not None and target.process.running else None

    def release(self, key: LaunchKey) -> None:
        """No further check needs this group's worker."""
        task = self._groups.pop(key, None)
        if task is not None:
            self._later(self._end_group(task))

    def stop_later(self, target: Target) -> None:
        """Stop one worker while the run goes on."""
        if target.process is not None:
            self._later(target.process.stop())

    def _later(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_group(self, task: asyncio.Task[Target]) -> None:
        with contextlib.suppress(Blocked, HarnessError, asyncio.CancelledError):
            target = await task
            if target.process is not None:
                await target.process.stop()

    async def close(self) -> None:
        """Bring every worker down and forget the models."""
        for key in list(self._groups):
            self.release(key)
        await asyncio.gather(*self._ending, return_exceptions=True)
        self._callback.close()
        shutil.rmtree(self._models, ignore_errors=True)

    # ---- recordings -------------------------------------------------------------------------------------------

    def keep(self, recording: Recording) -> list[Finding]:
        """Store a finished recording, judge what was stored, and keep the findings."""
        stored = cleaned(recording)
        sha = self.store.recording(stored)
        findings = evaluate(stored)
        self.store.findings(findings)
        self.recordings[sha] = stored
        self.findings += findings
        return findings

    def set_aside(
        self,
        check: str,
        clauses: Sequence[str],
        outcome: Outcome,
        note: str,
        facts: dict[str, Json] | None = None,
        *,
        launch: Launch | None = None,
    ) -> list[Finding]:
        """Keep a recording for a check that could not run: empty, or with the launch that failed."""
        recording = Recording(check, tuple(clauses), facts=facts or {}, settings=self.settings())
        recording.launches += [launch] if launch is not None else []
        recording.outcome, recording.note = outcome, note
        return self.keep(recording)


def _death(key: LaunchKey, target: Target) -> str:
    process = target.process
    if process is None:
        return key.name
    code, why = process.launch.exit_code, cause(process.lines[-KEPT:])
    return f"{key.name}: {ending(code) if code is not None else 'gone'}" + (f", it said: {why}" if why else "")
