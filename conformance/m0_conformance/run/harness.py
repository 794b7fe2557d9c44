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
from m0_conformance.recording.floor import measure_floor
from m0_conformance.recording.store import RunStore, cleaned
from m0_conformance.recording.transcript import Recording
from m0_conformance.run.calibration import Calibration
from m0_conformance.targets.host import free_port, nvidia_device
from m0_conformance.targets.nvidia import used_now
from m0_conformance.targets.process import WorkerProcess
from m0_conformance.targets.target import Blocked, HarnessError, OutOfReach, Target, Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from m0_conformance.judging.finding import Finding
    from m0_conformance.recording.transcript import Json, Outcome
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
        self._models = Path(tempfile.mkdtemp(prefix="m0-models-"))
        self._made: dict[str, asyncio.Task[tuple[str, dict[str, Any] | None]]] = {}
        self._groups: dict[LaunchKey, asyncio.Task[Target]] = {}
        self._restarts: dict[LaunchKey, int] = {}
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

    async def model(self, name: str) -> tuple[str, dict[str, Any] | None]:
        """Path and facts of a model: a probe's name, "KIND:NAME" (see `m0_models.named`), or an absolute path."""
        if Path(name).is_absolute():
            return name, None
        if name not in self._made:
            self._made[name] = asyncio.create_task(asyncio.to_thread(self._write_model, name))
        return await self._made[name]

    def _write_model(self, name: str) -> tuple[str, dict[str, Any] | None]:
        path = self._models / f"{name.replace(':', '-')}.gguf"
        try:
            path_and_facts: tuple[str, dict[str, Any] | None] = import_module("m0_models.named").write(name, path)
        except KeyError as error:
            raise HarnessError(str(error.args[0])) from error
        return path_and_facts

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
    ) -> Worker:
        """Start a worker without waiting for it.

        Raises OutOfReach for a URL target, Blocked when there is no such program.
        """
        if self.command is None:
            raise OutOfReach("needs --worker-command")
        path, facts = await self.model(model)
        port = free_port()
        arguments: dict[str, str | None] = {
            "worker_id": str(uuid.uuid4()),
            "model": path,
            "gpu_device": str(self.options.gpu_device),
            "port": str(port),
            **(values or {}),
        }
        for name, value in arguments.items():
            if value is None and not self.command.can_omit(name):
                raise OutOfReach(f"this command cannot be run without {{{name}}}")
        argv = self.command.argv(arguments, args)
        chosen = arguments["port"] or ""
        port = int(chosen) if chosen.isdigit() and 0 < int(chosen) < 65536 else port
        try:
            process = await WorkerProcess.start(argv, label=label, port=port, model=model, env=env, cwd=cwd)
        except OSError as error:
            raise Blocked(f"cannot start {argv[0]}: {error.strerror}") from error
        return Worker(process.address, process, facts, model, label=label, argv=argv)

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
            if self._restarts[key] > RESTARTS:
                raise Blocked(f"the worker ({key.name}) ended by itself {RESTARTS} times and was given up")

    async def own_target(self, key: LaunchKey) -> Target:
        """A worker for one check alone, or the URL."""
        return Target(self.address) if self.address is not None else await self._start_group(key)

    async def _start_group(self, key: LaunchKey) -> Target:
        worker = await self.launch("worker", model=key.model, args=key.args, env=dict(key.env))
        process = worker.running_process
        within = self.options.start_timeout * self.options.timing_scale
        if not await process.ready(within):
            code = await process.exited(0.5)
            words = (
                f"ended with exit code {code} before it was ready"
                if code is not None
                else f"did not answer GET /health within {within:g} s"
            )
            last = next((line.text for line in reversed(process.lines) if line.text.strip()), "")
            await process.stop()
            raise Blocked(f"the worker ({key.name}) {words}" + (f"; its last line: {last[:200]}" if last else ""))
        return worker

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
        self, check: str, clauses: Sequence[str], outcome: Outcome, note: str, facts: dict[str, Json] | None = None
    ) -> list[Finding]:
        """Keep an empty recording for a check that could not run."""
        recording = Recording(check, tuple(clauses), facts=facts or {}, settings=self.settings())
        recording.outcome, recording.note = outcome, note
        return self.keep(recording)
