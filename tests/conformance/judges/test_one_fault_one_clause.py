"""A fault is told by the clause that owns it and by no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wire_recordings import answer, event, job, red

from conformance.finding import Status

if TYPE_CHECKING:
    from conformance.wire.transcript import Exchange

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
