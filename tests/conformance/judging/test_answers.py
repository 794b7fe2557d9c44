"""What a job said, against what its control job said."""

from __future__ import annotations

import json

import pytest
from m0_conformance.judging.answers import repeats
from m0_conformance.judging.streams import stream_of
from m0_conformance.recording.transcript import Chunk, Exchange


@pytest.mark.parametrize(
    ("pieces", "asked", "same"),
    [
        (["a", "b"], 2, True),
        (["a", "b", "c"], 3, True),  # asked for more, it goes on
        (["a", "b", "c"], 2, False),  # more than it was asked for
        (["a", "x", "c"], 3, False),
        (["a"], 3, False),
    ],
)
def test_a_longer_job_begins_with_its_control(pieces: list[str], asked: int, same: bool) -> None:
    events = "".join(
        f"event: token\ndata: {json.dumps({'t': piece, 'i': number})}\n\n" for number, piece in enumerate(pieces)
    )
    request = json.dumps({"job_id": "j", "prompt": "p", "max_tokens": asked}).encode()
    chunks = [Chunk(0.1, events.encode())]
    exchange = Exchange("x1", "job", "POST", "/execute", [], request, status=200, chunks=chunks, end="complete")
    exchange.headers = [("content-type", "text/event-stream")]
    assert repeats(stream_of(exchange), ["a", "b"]) is same
