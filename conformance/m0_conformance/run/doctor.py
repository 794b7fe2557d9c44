"""Five quick looks at a target, a plain sentence each, before anything is judged.

A bogus command or an address that is no worker gives one sentence here instead of one failure per check.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from m0_conformance.contract import parse_json
from m0_conformance.judging.streams import KINDS, Stream, stream_of
from m0_conformance.run.calibration import FORMS, TOKENS
from m0_conformance.run.situation import LiveStream, Request, Situation
from m0_conformance.targets.host import nvidia_device
from m0_conformance.targets.nvidia import device_of
from m0_conformance.targets.target import Blocked, HarnessError

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Exchange, Json, Launch
    from m0_conformance.run.harness import Harness
    from m0_conformance.run.marks import LaunchKey

CHECK = "doctor"
CLAUSES = ()
HEALTH_S = 8.0
"""A worker that needs longer for its first /health is told from one that never answers by --timing-scale."""
EXECUTE_S = 20.0
"""Longest wait for a first event. Not scaled down, so that a slow machine is not called broken."""


LASTS_S = 0.6
"""Of a job that shows whether tokens come one by one."""
LONGEST = 2048
LOOKS = 5


@dataclass(slots=True)
class Diagnosis:
    """What the doctor found."""

    usable: bool = False
    """Checks can say something about this target."""
    sentences: list[tuple[bool, str]] = field(default_factory=list)
    """(fine, one sentence) per look."""
    complaint: str = ""
    """The one sentence to show when the target is not usable."""
    refused: bool = False
    """Nothing that speaks HTTP answered: the run proves nothing about M0 (exit 3)."""

    def add(self, fine: bool, sentence: str) -> None:
        """One more look."""
        self.sentences.append((fine, sentence))

    def give_up(self, sentence: str, *, refused: bool) -> Diagnosis:
        """The target is not usable."""
        self.add(fine=False, sentence=sentence)
        self.complaint, self.refused = sentence, refused
        return self


async def examine(harness: Harness, key: LaunchKey) -> Diagnosis:
    """Look at a group's target; fills `harness.identity` and `harness.device`, keeps a recording named "doctor"."""
    diagnosis = Diagnosis()
    await harness.measure_floor()
    try:
        target = await harness.target_for(key)
    except (Blocked, HarnessError) as error:
        diagnosis.give_up(f"{error}", refused=True)
        _keep_failure(harness, diagnosis, getattr(error, "launch", None))
        return diagnosis
    situation = Situation(harness, CHECK, CLAUSES, target)
    for sentence in harness.ladder.sentences():
        diagnosis.add(fine=False, sentence=sentence)
    try:
        await _look(harness, situation, diagnosis)
    finally:
        recording = await situation.finish()
        recording.facts["usable"] = diagnosis.usable
        recording.facts["complaint"] = diagnosis.complaint
        recording.facts["refused"] = diagnosis.refused
        recording.facts["sentences"] = [[fine, sentence] for fine, sentence in diagnosis.sentences]
        harness.keep(recording)
    return diagnosis


def _keep_failure(harness: Harness, diagnosis: Diagnosis, launch: Launch | None) -> None:
    facts: dict[str, Json] = {"usable": False, "complaint": diagnosis.complaint, "refused": True}
    harness.set_aside(CHECK, CLAUSES, "blocked", diagnosis.complaint, facts, launch=launch)


async def _look(harness: Harness, situation: Situation, diagnosis: Diagnosis) -> None:
    where = "{}:{}".format(*situation.target.address)
    health = await situation.send("health", Request("GET", "/health"), within=HEALTH_S)
    if health.status is None:
        words = {
            "refused": f"nothing listens on {where} ({health.error})",
            "timeout": f"{where} accepts connections but never answers GET /health",
            "garbage": f"{where} does not speak HTTP/1.x: {health.error}",
        }
        diagnosis.give_up(words.get(health.end, f"{where}: GET /health got no answer ({health.error})"), refused=True)
        return
    diagnosis.add(fine=True, sentence=f"{where} answers HTTP")
    body = parse_json(health.body).value if health.status in {200, 503} else None
    sound = isinstance(body, dict) and bool(body)
    if isinstance(body, dict):
        harness.identity = body
    harness.device = await _device(harness, situation, body if isinstance(body, dict) else {})
    diagnosis.add(sound, _health_words(health, body))
    for form in FORMS:
        harness.calibration.form = form
        live = await _first_job(situation)
        if live.exchange.status not in {400, 422}:
            break
    stream = stream_of(live.exchange)
    if live.exchange.status != 200 or not any(event.kind in KINDS | {"[DONE]"} for event in stream.events):
        diagnosis.give_up(_no_stream_words(where, live.exchange, worker_like=sound), refused=not sound)
        return
    nothing = await situation.post("cancel of nothing", "/cancel", {}, within=HEALTH_S)
    harness.calibration.cancels = nothing.status not in {404, 405, 501}
    await _calibrate(harness, situation, stream)
    diagnosis.add(fine=True, sentence=f"POST /execute streams: {len(stream.tokens)} tokens, {_ending(stream)}")
    diagnosis.add(stream.dialect == "named", _dialect_words(stream))
    diagnosis.add(fine=True, sentence=f"the harness itself takes {harness.floor_us or 0:.0f} µs a round trip")
    diagnosis.usable = True


async def _first_job(situation: Situation) -> LiveStream:
    """A short greedy job; one that shows nothing for too long is left."""
    live = situation.start("execute", max_tokens=TOKENS, temperature=0.0)
    await live.live.wait(lambda: live.count("started", "token", "end", "error") > 0, EXECUTE_S)
    if live.events or live.exchange.status not in {None, 200}:
        try:
            async with asyncio.timeout(EXECUTE_S):
                await live.done()
        except TimeoutError:
            await live.hang_up()
    else:
        await live.hang_up()
    return live


async def _calibrate(harness: Harness, situation: Situation, stream: Stream) -> None:
    """The pace by the first job, and of a fast worker by one that takes a while: a few tokens come in one piece."""
    calibration, target = harness.calibration, situation.target
    calibration.load_s = None if target.process is None else target.process.launch.ready_at
    calibration.read(stream, str(stream.request.get("prompt")), target.probe)
    calibration.measure(stream)
    for _ in range(LOOKS):
        if calibration.settled:
            break
        length = max(TOKENS, min(LONGEST, calibration.tokens_in(LASTS_S)))
        calibration.measure(await situation.execute("pace", max_tokens=length, temperature=0.0, within=EXECUTE_S))
    situation.recording.settings |= harness.settings()  # what was learned counts for this recording, too


async def _device(harness: Harness, situation: Situation, body: dict[str, Json]) -> str | None:
    """Where the weights are: asked of the driver, or where there is no device the processor; of a URL, its own word."""
    process = situation.target.process
    if process is not None:
        if nvidia_device() is None:
            return "cpu"
        path, _ = await harness.model(situation.target.model)
        weights = Path(path).stat().st_size  # noqa: ASYNC240 - a file of ours, on this host
        before = harness.device_memory_before
        told = await asyncio.to_thread(device_of, process.pid, harness.options.gpu_device, before, weights)
        if told is not None:
            return told
    resident = body.get("resident")
    return None if not isinstance(resident, bool) else "cuda" if resident else "cpu"


def _health_words(health: Exchange, body: Json) -> str:
    if isinstance(body, dict) and body:
        return f"GET /health is JSON: model {body.get('model', '(not named)')!r}, {len(body)} fields"
    return f"GET /health is not an M0 health body: HTTP {health.status}, {health.content_type or 'no content type'}"


def _no_stream_words(where: str, exchange: Exchange, *, worker_like: bool) -> str:
    if exchange.status is None:
        answer = {"timeout": "never answered", "client-closed": f"no answer within {EXECUTE_S:g} s"}.get(
            exchange.end, f"no answer ({exchange.end} {exchange.error})".strip()
        )
    else:
        answer = f"HTTP {exchange.status}, {exchange.content_type or 'no content type'}, no event stream"
    kind = (
        f"{where} answers GET /health, but POST /execute: "
        if worker_like
        else f"{where} is no M0 worker: POST /execute: "
    )
    return kind + answer


def _ending(stream: Stream) -> str:
    return f"ended by {stream.terminal.kind!r}" if stream.terminal is not None else "without a terminal event"


def _dialect_words(stream: Stream) -> str:
    return {
        "named": "events are named by their `event:` line, as M0 has it",
        "json-type": "events are named only by the JSON key `type`, a known other dialect (E-FRAME)",
        "unnamed": "events carry no name at all",
        "silent": "no events",
    }[stream.dialect]
