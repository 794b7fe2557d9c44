"""A fault is told by the clause that owns it and by no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from m0_conformance.judging.finding import Status
from m0_conformance.recording.transcript import Chunk
from wire_recordings import answer, event, job, red

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Exchange

PASS, FAIL, SILENT = {Status.PASS}, {Status.FAIL}, {Status.NOT_TESTED}
CANCELLED = event("error", code="CANCELLED", message="no", retriable=False)


@pytest.mark.parametrize("name", ["started", "end"])
def test_a_payload_that_is_no_json_is_one_fault(name: str) -> None:
    stream = job("a", "x")
    for chunk in stream.chunks:
        if chunk.data.startswith(f"event: {name}".encode()):
            stream.chunks[stream.chunks.index(chunk)] = type(chunk)(
                chunk.at, f"event: {name}\ndata: {{'a'}}\n\n".encode()
            )
    assert red("M0-W-1312/json-object", stream) == FAIL
    assert red(f"M0-W-1312/{name}-fields", stream) == SILENT


def test_a_negative_time_is_no_time_at_all() -> None:
    stream = job("a", "x", end=event("end", tokens_out=1, decode_time_ms=-1))
    assert red("M0-W-1312/end-fields", stream) == FAIL
    assert red("M0-W-1312/end-decode-time", stream) == SILENT


def test_an_end_that_crossed_the_cancel_proves_nothing() -> None:
    words = ["w"] * 20

    def cancel(t0: float, took: float) -> Exchange:
        return answer("cancel", 202, {}, path="/cancel", request={"job_id": "job"}, t0=t0, took=took)

    # Tokens come every 10 ms, so the end comes after 220 ms.
    assert red("M0-W-1330/cancelled-event", job("job", *words), cancel(0.2, 0.01)) == SILENT
    assert red("M0-W-1330/cancelled-event", job("job", *words), cancel(0.05, 0.01)) == FAIL
    done = job("job", *words, end=CANCELLED)
    assert red("M0-W-1330/cancelled-event", done, cancel(0.2, 0.05)) == PASS
    # However late: what comes in one read had all been written when the cancel was answered.
    burst = job("job", *words)
    burst.chunks[8:] = [Chunk(7.0, chunk.data) for chunk in burst.chunks[8:]]
    assert red("M0-W-1330/cancelled-event", burst, cancel(0.05, 0.01)) == SILENT
    # A model may end its text before it has said all that was asked for; that it was cut shows beside the uncut job.
    short, crossing = job("job", *words, max_tokens=512), cancel(0.2, 0.01)
    assert red("M0-W-1330/cancelled-event", short, crossing) == SILENT
    assert red("M0-W-1330/cancelled-event", job("alone", *words, max_tokens=512, t0=-9), short, crossing) == SILENT
    assert red("M0-W-1330/cancelled-event", job("alone", *words * 2, max_tokens=512, t0=-9), short, crossing) == FAIL
    told = event("end", tokens_out=20, decode_time_ms=1, stop_reason="CANCELLED")
    assert red("M0-W-1330/cancelled-event", job("job", *words, max_tokens=512, end=told), crossing) == FAIL
    # Between hosts two connections keep no order.
    far = [job("job", *words, step=0.001), cancel(0.005, 0.002)]
    assert red("M0-W-1330/cancelled-event", *far) == FAIL
    for exchange in far:
        exchange.host = "worker.example:8000"
    assert red("M0-W-1330/cancelled-event", *far) == SILENT


def flow(late: int, of: int = 20, delay: float = 0.15) -> list[Exchange]:
    """Cancelled jobs, so many of them late."""
    result = []
    for number in range(of):
        name = f"flow {number}"
        stream = job(name, "a", "b", "c", t0=number, max_tokens=512, end=CANCELLED)
        stream.chunks[-1] = Chunk(0.05 + (delay if number < late else 0.01), stream.chunks[-1].data)
        result += [stream, answer("c", 202, {}, path="/cancel", request={"job_id": name}, t0=number + 0.045)]
    return result


def test_some_late_cancels_may_be_the_machine_and_most_are_the_worker() -> None:
    clause = "M0-W-1330/within-100ms"
    assert red(clause, *flow(0)) == PASS
    assert red(clause, *flow(3)) == {Status.PASS, Status.INCONCLUSIVE}
    assert Status.FAIL in red(clause, *flow(16))
    assert red(clause, *flow(20)) == FAIL
    assert red(clause, *flow(5, 5)) == {Status.INCONCLUSIVE}  # too few to tell


def test_a_waiting_jobs_cancel_counts_only_while_another_surely_runs() -> None:
    clause = "M0-W-1330/waiting-job"
    running = job("running", *["w"] * 40, end=CANCELLED)  # its terminal event after 420 ms
    ran = job("waiting", "x", t0=0.1, step=0.4)
    held = job("waiting", t0=0.1, step=0.3, end=CANCELLED)
    in_time = answer("cancel waiting", 202, {}, path="/cancel", request={"job_id": "waiting"}, t0=0.2)
    late = answer("cancel waiting", 202, {}, path="/cancel", request={"job_id": "waiting"}, t0=0.2, took=0.5)
    assert red(clause, running, held, in_time) == PASS
    assert red(clause, running, ran, in_time) == FAIL
    assert red(clause, running, ran, late) == SILENT  # it may have had its turn before
    assert red(clause, running, answer("waiting", 503, {}, t0=0.1)) == {Status.NA}


def test_where_seeds_do_not_repeat_nothing_else_is_said_of_them() -> None:
    def runs(second: str) -> list[Exchange]:
        return [
            job("same seed", "a", seed=7), job("same seed", second, seed=7),
            job("top_k off", "a", seed=5), job("top_k all", "b", seed=5), job("min_p zero", "b", seed=5),
            job("replay", "a"), job("replayed", "b", seed=1),
        ]  # fmt: skip

    for clause in ("M0-W-1421/top-k-off", "M0-W-1030/seed-replays"):
        assert red(clause, *runs("a")) == FAIL
        assert red(clause, *runs("z")) == SILENT
    assert red("M0-W-1030/same-seed", *runs("z")) >= FAIL


def test_faces_are_read_from_the_joined_text() -> None:
    faces = {"faces": {" one": 2.0, " two": 1.0, " three": 0.0}}
    together = job("top_k cut", "", " one two", "", " three")
    assert red("M0-W-1421/top-k-cut", together, facts=faces) == PASS
    assert red("M0-W-1421/top-k-cut", job("top_k cut", " one", " two", " three", " x"), facts=faces) == FAIL
