"""What a check drives: requests to the worker under test, extra workers, facts and timing samples, all recorded."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

from m0_conformance.judging.finding import Status
from m0_conformance.judging.streams import Event, Stream, make_event, stream_of
from m0_conformance.recording.cause import cause, ending
from m0_conformance.recording.client import Clock, Live, start
from m0_conformance.recording.request import Request, json_request
from m0_conformance.recording.sse import SseParser
from m0_conformance.recording.transcript import Recording
from m0_conformance.run.calibration import FORMS
from m0_conformance.run.marks import alone, launch, needs, repeated, requirement
from m0_conformance.targets.target import HarnessError, NotExercised, OutOfReach, Target, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from m0_conformance.recording.transcript import Exchange, Json
    from m0_conformance.run.calibration import Calibration
    from m0_conformance.run.harness import Harness
    from m0_conformance.run.variation import Variation

__all__ = [
    "NUMBERS",
    "OMIT",
    "HarnessError",
    "LiveStream",
    "NotExercised",
    "OutOfReach",
    "Request",
    "Situation",
    "Target",
    "Worker",
    "alone",
    "launch",
    "needs",
    "repeated",
    "requirement",
]

OMIT: Any = object()
"""As a field's value: leave the field out of the body."""
NUMBERS: dict[str, Any] = dict.fromkeys(FORMS[0], OMIT)
"""As fields: none of the numbers is sent, so that their defaults show."""
Wait: TypeAlias = Literal["ready", "exit", "listening", "no"]
AFTER_TERMINAL_S = 2.0
"""Silence after a terminal event that ends our waiting for the end of the body."""
EXPLAINS_S = 1.0
"""What a worker writes so soon after a connection broke may say why."""
AFTER_TIMEOUT_S = 10.0
"""Longest exchange of a check in which one was in vain: a worker that falls silent costs a check no minutes."""

NATURAL_PROMPTS = {
    "words": "Tell a very long story about a lighthouse keeper and the sea. Begin now.\n",
    "utf8": "Repeat exactly: é 你好 😀 naïve café 東京\n",
    "eos": "Answer with the single word yes.\n",
}
"""Prompts for workers whose model we do not know: situations they may, but need not, bring about."""


class LiveStream:
    """A POST /execute in flight."""

    def __init__(self, live: Live, job_id: str, scale: float = 1.0, recording: Recording | None = None) -> None:
        self.live = live
        self._recording = recording
        self.job_id = job_id
        self._patience = AFTER_TERMINAL_S * scale
        self.events: list[Event] = []
        """Normalized events so far; call a waiting method first."""
        self._parser = SseParser()
        self._taken = 0

    @property
    def exchange(self) -> Exchange:
        """What is recorded of it so far."""
        return self.live.exchange

    def _catch_up(self) -> None:
        for chunk in self.exchange.chunks[self._taken :]:
            self.events += [make_event(raw, chunk.at) for raw in self._parser.feed(chunk.data)]
        self._taken = len(self.exchange.chunks)

    def count(self, *kinds: str) -> int:
        """How many events of these kinds have arrived."""
        self._catch_up()
        return sum(event.kind in kinds for event in self.events)

    async def started(self, within: float | None = 30.0) -> bool:
        """Wait for the started event; False when the exchange ended or the time was over without it."""
        return await self.live.wait(lambda: self.count("started") > 0, within)

    async def tokens(self, count: int, within: float | None = 60.0) -> bool:
        """Wait for so many token events."""
        return await self.live.wait(lambda: self.count("token") >= count, within)

    async def terminal(self, within: float | None = 60.0) -> bool:
        """Wait for a terminal event."""
        return await self.live.wait(lambda: self.count("end", "error") > 0, within)

    async def done(self) -> Stream:
        """Wait for the end of the exchange, whatever it is; one that stays silent after its terminal event is left.

        Twice the second that M0-W-1311 allows, so that the judges see it broken, and no check waits for its time-out.
        """
        while not self.live.ended:
            seen = len(self.exchange.chunks)
            await self.live.wait(lambda: False, self._patience)
            if not self.live.ended and len(self.exchange.chunks) == seen and self.count("end", "error"):
                return await self.hang_up()
        return stream_of(await self.live.done(), self._recording)

    async def hang_up(self, *, reset: bool = False) -> Stream:
        """Leave: close the connection, with RST when `reset`."""
        return stream_of(await self.live.hang_up(reset=reset), self._recording)


class Situation:
    """The check's driver. Every method records; none of them judges or raises for what the worker does."""

    def __init__(self, harness: Harness, check: str, clauses: Sequence[str], target: Target) -> None:
        settings = {**harness.settings(), "probe": target.model or None}
        self.recording = Recording(check, tuple(clauses), settings=settings)
        self.target = target
        self.clock = Clock()
        self._harness = harness
        self._begin = self.clock.now()
        self._lives: list[Live] = []
        self._workers: list[Worker] = []
        self._shared_since = target.process.now() if target.process is not None else 0.0
        self.variation: Variation | None = None
        """Set by a check that is repeated under other conditions."""

    # ---- knowledge --------------------------------------------------------------------------------------------

    @property
    def probe(self) -> dict[str, Any] | None:
        """What the probe model promises (see `m0_models.probes`); None when the model is not ours."""
        return self.target.probe

    def prompt(self, name: str = "words") -> str:
        """The probe's prompt of this name, or a natural one; raises OutOfReach when neither exists."""
        known = (self.probe or {}).get("prompts", {})
        if name in known:
            return str(known[name])
        if self.probe is None and name in NATURAL_PROMPTS:
            return NATURAL_PROMPTS[name]
        raise OutOfReach(f"no prompt {name!r} for this model; needs --worker-command")

    @property
    def scale(self) -> float:
        """--timing-scale: multiply own time limits by it."""
        return self._harness.options.timing_scale

    @property
    def seed(self) -> int:
        """--seed: for the check's own random choices."""
        return self._harness.options.seed

    @property
    def max_examples(self) -> int:
        """--max-examples: how many histories or values a check may make up."""
        return self._harness.options.max_examples

    @property
    def report_dir(self) -> Path:
        """Where the run writes: for what a check leaves besides its recording."""
        return self._harness.options.report_dir

    @property
    def gpu_device(self) -> int:
        """--gpu-device: the device number that workers are started with."""
        return self._harness.options.gpu_device

    def given(self, model: str, **more: Json) -> dict[str, Json]:
        """What a worker is told on its command line, as far as the command passes it on: judges accuse of no more."""
        passes = self._harness.passes("gpu_device")
        return {"model": model, **({"gpu_device": self.gpu_device} if passes else {}), **more}

    @property
    def real_model(self) -> Path:
        """--real-model: the file, for checks that need one."""
        given = self._harness.options.real_model
        if given is None:
            raise OutOfReach("needs --real-model")
        return given.resolve()

    @property
    def start_timeout(self) -> float:
        """--start-timeout, scaled: seconds a worker may take to become ready."""
        return self._harness.options.start_timeout * self.scale

    @property
    def health_identity(self) -> dict[str, Json]:
        """The /health body the doctor saw; empty without one. For building requests (vocab_size), never for judging."""
        return self._harness.identity

    @property
    def pace(self) -> Calibration:
        """How fast this worker is, and in which form it takes requests."""
        return self._harness.calibration

    def broken(self, *clauses: str) -> bool:
        """Whether the run has found one of these clauses broken. For building requests, never for judging."""
        return any(found.clause in clauses and found.status is Status.FAIL for found in self._harness.findings)

    def fact(self, name: str, value: Json) -> None:
        """Note something the judges need (any JSON value)."""
        self.recording.facts[name] = json.loads(json.dumps(value))

    def sample(self, name: str, value: float) -> None:
        """Add one timing sample, seconds."""
        self.recording.samples.setdefault(name, []).append(round(value, 6))

    def concerns(self, *clauses: str) -> None:
        """Of the clauses that the check names, the situation can show these only: the others are not its business."""
        self.recording.clauses = tuple(clause for clause in self.recording.clauses if clause in clauses)

    def not_exercised(self, reason: str) -> NoReturn:
        """End the check: the situation did not come about."""
        raise NotExercised(reason)

    # ---- requests ---------------------------------------------------------------------------------------------

    def open(self, label: str, request: Request, *, on: Target | None = None, within: float | None = None) -> Live:
        """Start any exchange; the lowest of these methods."""
        exchanges = self.recording.exchanges
        limit = (self._harness.options.timeout if within is None else within) * self.scale
        if any(exchange.end == "timeout" for exchange in exchanges):
            limit = min(limit, AFTER_TIMEOUT_S * self.scale)
        target = on or self.target
        live = start(
            target.address,
            request,
            identity=f"x{len(exchanges) + 1}",
            label=label,
            clock=self.clock,
            timeout=limit,
            route=self._harness.route,
        )
        exchanges.append(live.exchange)
        self._lives.append(live)
        return live

    async def send(
        self, label: str, request: Request, *, on: Target | None = None, within: float | None = None
    ) -> Exchange:
        """Any exchange, to its end."""
        return await self.open(label, request, on=on, within=within).done()

    async def get(self, label: str, path: str = "/health", *, on: Target | None = None) -> Exchange:
        """GET, to its end."""
        return await self.send(label, Request("GET", path), on=on, within=15.0)

    async def post(
        self,
        label: str,
        path: str,
        value: Json = OMIT,
        *,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        on: Target | None = None,
        within: float | None = None,
    ) -> Exchange:
        """POST a JSON value, or raw `body` bytes with your own headers, to its end."""
        if self.variation is None:
            raw = value is OMIT
            request = Request("POST", path, list(headers), body) if raw else json_request("POST", path, value, headers)
            return await self.send(label, request, on=on, within=within)
        if path == "/execute":
            await self.variation.meet(self)
        if value is OMIT or path != "/execute":
            self.variation.step()
        if value is OMIT:
            request = self.variation.framed(Request("POST", path, list(headers), body))
        else:
            job = self.variation.job(value) if path == "/execute" and isinstance(value, dict) else value
            request = self.variation.written(path, job, headers)
        return await self.send(label, request, on=on, within=within)

    async def cancel(self, label: str, job_id: str, *, on: Target | None = None) -> Exchange:
        """POST /cancel for this job."""
        return await self.post(label, "/cancel", {"job_id": job_id}, on=on, within=15.0)

    def start(
        self,
        label: str,
        *,
        prompt: str = OMIT,
        job_id: str = OMIT,
        headers: Sequence[tuple[str, str]] = (),
        on: Target | None = None,
        within: float | None = None,
        **body: Json,
    ) -> LiveStream:
        """POST /execute and go on at once.

        A job_id of its own, the prompt "words" and the numbers that this worker takes unless given; OMIT leaves a field
        out.
        """
        job = self._harness.job_id() if job_id is OMIT else job_id
        text = self.prompt() if prompt is OMIT else prompt
        fields = {"job_id": job, "prompt": text, **self._harness.calibration.form, **body}
        value = {k: v for k, v in fields.items() if v is not OMIT}
        if self.variation is None:
            request = json_request("POST", "/execute", value, headers)
        else:
            value = self.variation.job(value, left_open=frozenset(self._harness.calibration.form) - frozenset(body))
            request = self.variation.written("/execute", value, headers)
        live = self.open(label, request, on=on, within=within)
        if self.variation is not None:
            self.variation.follow(self)
        named = value.get("job_id")
        return LiveStream(live, named if isinstance(named, str) else job, self.scale, self.recording)

    async def meet(self) -> None:
        """Before a job that is sent with `start`: in a repeat, what it is to find is brought about."""
        if self.variation is not None:
            await self.variation.meet(self)

    async def under_way(self, live: LiveStream, tokens: int, alone: Stream | None = None) -> bool:
        """Wait until a job surely runs: so many tokens have come, or, where all come at the end, a third of its time.

        `alone`: the same job when it had the worker for itself, for that time. False when it is over before.
        """
        if not self.pace.together:
            return await live.tokens(tokens)
        asked = stream_of(live.exchange).request.get("max_tokens")
        whole = self.pace.seconds(asked if isinstance(asked, int) else 0)
        if alone is not None and alone.terminal is not None:
            whole = alone.terminal.at
        await live.live.wait(lambda: live.count("token", "end", "error") > 0, whole / 3)
        return not live.live.ended

    async def execute(self, label: str, **fields: Any) -> Stream:
        """POST /execute, to its end; the same arguments as `start`."""
        await self.meet()
        return await self.start(label, **fields).done()

    async def line(self, wanted: str, within: float = 5.0) -> bool:
        """Wait until the worker under test writes a line that holds this text; False for a URL."""
        process = self.target.process
        return process is not None and await process.line(wanted, within)

    # ---- workers ----------------------------------------------------------------------------------------------

    async def launch(
        self,
        label: str,
        *,
        model: str = "script",
        args: Sequence[str] = (),
        values: Mapping[str, str | None] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        wait: Wait = "ready",
        within: float | None = None,
        exact: bool = False,
    ) -> Worker:
        """Start another worker.

        Args:
            label: of the recorded launch.
            model: a probe's name, "corrupt:NAME", "miniature:NAME" or "benchmark:NAME" (see `m0_models.named`), or an
                absolute path.
            args: appended to the command line.
            values: replaces "worker_id", "model", "gpu_device" or "port"; None leaves the argument out.
            env: set on top of the inherited environment.
            cwd: working directory.
            wait: "ready" until /health answers or it exits, "exit" until it exits, "listening", or "no".
            within: seconds to wait; default --start-timeout.
            exact: the probe's own form, whatever form the worker loads.
        """
        rung = 0 if exact else None
        worker = await self._harness.launch(label, model=model, args=args, values=values, env=env, cwd=cwd, rung=rung)
        self._workers.append(worker)
        limit = (self._harness.options.start_timeout if within is None else within) * self.scale
        process = worker.running_process
        if wait == "ready":
            await process.ready(limit)
            if not process.running:
                await process.exited(1.0)  # the last lines
        elif wait == "exit":
            await process.exited(limit)
        elif wait == "listening":
            await process.listening(limit)
        return worker

    async def model_path(self, name: str) -> str:
        """Write a model (as `launch` names them) and return its path."""
        path, _ = await self._harness.model(name)
        return path

    async def together(self, *actions: Callable[[], Any], at_once: int | None = None) -> list[Any]:
        """Run coroutine functions at the same time, or no more than `at_once` of them."""
        gate = asyncio.Semaphore(at_once or max(len(actions), 1))

        async def run(action: Callable[[], Any]) -> Any:
            async with gate:
                return await action()

        return list(await asyncio.gather(*(run(action) for action in actions)))

    def _explain(self, exchange: Exchange) -> None:
        """Add to a broken exchange what its worker said meanwhile, where that is a cause."""
        for own in self.recording.launches:
            if own.port != int(exchange.host.rpartition(":")[2] or 0):
                continue
            begin = exchange.t0 - own.t0
            until = begin + (exchange.closed_at or 0.0) + EXPLAINS_S
            lines = [line for line in own.lines if line.stream == "stderr" and begin <= line.at <= until]
            gone = own.exit_code is not None and begin <= (own.exited_at or 0.0) <= until
            words = [ending(own.exit_code)] if gone and own.exit_code is not None else []
            if why := cause(lines, at_least=False):
                words.append(f"it said: {why}")
            if words:
                exchange.error = "; the worker: ".join(filter(None, (exchange.error, ", ".join(words))))

    # ---- the end ----------------------------------------------------------------------------------------------

    async def finish(self) -> Recording:
        """Hang up what is still open, stop own workers, complete the recording."""
        for live in self._lives:
            if not live.ended:
                await live.hang_up()
        for worker in self._workers:
            process = worker.running_process
            self.recording.launches.append(process.snapshot(self.clock))  # before our own clean-up changes it
            await process.stop()
        shared = self.target.process
        if shared is not None:
            await asyncio.sleep(0)  # let lines already in the pipes arrive
            self.recording.launches.append(shared.snapshot(self.clock, shared=True, since=self._shared_since))
        for exchange in self.recording.exchanges:
            if exchange.end in {"reset", "refused", "garbage"}:
                self._explain(exchange)
        return self.recording
