"""Checks of POST /cancel: running, waiting, finished and unknown jobs, and how soon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from m0_conformance.areas.cancel.judge import cancelled_in_time, met
from m0_conformance.judging.streams import stream_of
from m0_conformance.run.situation import Situation, repeated, requirement

if TYPE_CHECKING:
    from m0_conformance.judging.streams import Stream
    from m0_conformance.recording.transcript import Exchange

LENGTH = 512
"""Tokens of a job that is to be cancelled: long enough to be hit in the middle, short enough for slow workers."""
BEFORE_CANCEL = 3
"""Tokens that must have arrived, so that the cancel meets a running generation."""
ATTEMPTS = 4
"""To meet a running job: a fast worker on a busy machine may be ready before the cancel is sent."""
SAMPLES = 20
MALFORMED = (b"", b"{", b"[]", b'"job"', b"null", b"{}", b'{"job_id": ""}', b'{"job_id": null}', b'{"job_id": 7}')
JSON = (("Content-Type", "application/json"),)


LASTS_S = 5.0
"""A slow worker's job need not be longer to be hit."""


def length(situation: Situation) -> int:
    """Tokens of the job to cancel."""
    longest = 4 * LENGTH if situation.pace.together else LENGTH  # to be hit by its time alone
    return max(48, min(longest, situation.pace.tokens_in(LASTS_S)))


async def cancel_in_the_middle(
    situation: Situation, label: str, *cancels: str, alone: Stream | None = None
) -> Exchange | None:
    """Start a job and cancel it while it runs, until a cancel met a running one; waits for each one's end.

    Returns the first cancel's answer.
    """
    answers: list[Exchange] = []
    for attempt in range(ATTEMPTS):
        # Where a proxy hands a short job over in one piece, a longer one comes in several.
        tokens = situation.pace.shorter(min(4 * LENGTH, length(situation) << attempt), length(situation), LASTS_S)
        live = situation.start(label, max_tokens=tokens, temperature=0.0)
        answers = []
        if await situation.under_way(live, BEFORE_CANCEL, alone):
            answers = [await situation.cancel(name, live.job_id) for name in cancels or (f"cancel {label}",)]
        stream = await live.done()
        if not answers or met(stream, answers[:1]) is not None:
            break
    return answers[0] if answers else None


@repeated()
@requirement(
    "M0-W-1330/accepts",
    "M0-W-1330/cancelled-event",
    "M0-W-1330/within-5s",
    "M0-W-1330/next-job",
    "M0-SYS-6.3.5/stops-early",
)
async def test_cancel_of_a_running_job(situation: Situation) -> None:
    """A job alone, the same cancelled, and a short one after that."""
    alone = await situation.execute("uncancelled", max_tokens=length(situation), temperature=0.0)
    await situation.execute("short before", max_tokens=12, temperature=0.0)
    await cancel_in_the_middle(situation, "cancelled", alone=alone)
    asked = stream_of(situation.recording.labelled("cancelled")[-1]).request.get("max_tokens")
    if asked != alone.request.get("max_tokens"):
        await situation.execute("uncancelled", max_tokens=asked, temperature=0.0)
    await situation.execute("short after", max_tokens=12, temperature=0.0)


@repeated()
@requirement("M0-W-1330/idempotent")
async def test_cancel_twice(situation: Situation) -> None:
    """The second cancel follows the first at once."""
    await cancel_in_the_middle(situation, "cancelled", "first cancel", "second cancel")


@repeated()
@requirement("M0-W-1330/unknown-job", "M0-W-1330/only-named-job")
async def test_cancel_of_another_job(situation: Situation) -> None:
    """While a job runs, cancels name a job that never was and one that has ended."""
    ended = await situation.execute("ended", max_tokens=2, temperature=0.0)
    live = situation.start("bystander", max_tokens=64, temperature=0.0)
    await situation.under_way(live, 1)
    await situation.cancel("cancel of nobody", "no-such-job")
    await situation.cancel("cancel of the ended", str(ended.request.get("job_id")))
    await live.done()


@repeated()
@requirement("M0-W-1330/finished-job")
async def test_cancel_after_the_end(situation: Situation) -> None:
    """A cancel that comes too late harms neither the past job nor the next."""
    ended = await situation.execute("ended", max_tokens=4, temperature=0.0)
    await situation.cancel("late cancel", str(ended.request.get("job_id")))
    await situation.execute("next", max_tokens=4, temperature=0.0)


@requirement("M0-W-1330/waiting-job")
async def test_cancel_of_a_waiting_job(situation: Situation) -> None:
    """One job runs, a second waits for its turn and is cancelled; then the first is."""
    for _ in range(ATTEMPTS):
        longest = max(64, min(2048, situation.pace.tokens_in(20.0)))
        running = situation.start("running", max_tokens=longest, temperature=0.0)
        await situation.under_way(running, 1)
        waiting = situation.start("waiting", max_tokens=8, temperature=0.0)
        await situation.get("time passes", "/health")
        await situation.cancel("cancel waiting", waiting.job_id)
        await waiting.terminal(5.0)
        await situation.cancel("cancel running", running.job_id)
        await running.done()
        stream = await waiting.done()
        if stream.exchange.status != 200 or cancelled_in_time(situation.recording, stream):
            break


@repeated()
@requirement("M0-W-1330/validates-body")
async def test_malformed_cancels(situation: Situation) -> None:
    """Bodies without a usable job_id."""
    for number, body in enumerate(MALFORMED):
        await situation.post(f"malformed {number}", "/cancel", body=body, headers=JSON)
    situation.fact("malformed", [json.dumps(body.decode()) for body in MALFORMED])


@repeated("json", "names", "media", "framing", "job-id", "extra", rounds=4)
@requirement("M0-W-1330/within-100ms")
async def test_cancel_latency(situation: Situation) -> None:
    """Twenty cancels, each of a job in full flow; no more of a worker that takes none."""
    for number in range(SAMPLES):
        answer = await cancel_in_the_middle(situation, f"flow {number}")
        if answer is not None and answer.status != 202:
            break
