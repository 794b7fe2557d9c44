"""The plan of a run: what fits into its time, by the pace that the doctor measured."""

from __future__ import annotations

from m0_conformance.judging.streams import stream_of
from m0_conformance.recording.transcript import Chunk, Exchange
from m0_conformance.run.calibration import Calibration
from m0_conformance.run.plan import TOKENS, Plan
from m0_conformance.run.pytest_session import collect_checks


def test_every_check_of_the_table_exists() -> None:
    known = {name.partition("[")[0] for name in collect_checks()}
    assert set(TOKENS) <= known


def test_what_does_not_fit_is_left_out_and_noted() -> None:
    slow, plan = Calibration(token_s=1.0), Plan(100.0)
    assert plan.fits("streaming::test_ordinary_streams", slow)
    assert not plan.fits("jobs::test_two_jobs", slow)
    assert plan.left_out == ["jobs::test_two_jobs"]
    assert "530 s" in plan.reason("jobs::test_two_jobs", slow)
    assert Plan(None).fits("jobs::test_two_jobs", slow)


def job(*times: float, end: float) -> Exchange:
    """A stream whose tokens came at these times."""
    lines = [(at, f'event: token\ndata: {{"t": "a", "i": {i}}}\n\n') for i, at in enumerate(times)]
    lines.append((end, f'event: end\ndata: {{"tokens_out": {len(times)}, "decode_time_ms": 1}}\n\n'))
    exchange = Exchange("x1", "pace", "POST", "/execute", host="127.0.0.1:1")
    exchange.status, exchange.end = 200, "eof"
    exchange.chunks = [Chunk(at, text.encode()) for at, text in lines]
    return exchange


def test_all_at_the_end_takes_two_long_jobs_to_be_believed() -> None:
    late, pace = job(0.9, 0.91, 0.92, end=1.0), Calibration()
    pace.measure(stream_of(late))
    assert not pace.together
    pace.measure(stream_of(late))
    assert pace.together
    assert round(pace.token_s, 2) == 0.33
    pace = Calibration()
    for _ in range(3):
        pace.measure(stream_of(job(0.09, 0.091, end=0.1)))  # so short a job may come in one piece from anybody
    assert not pace.together
    pace.measure(stream_of(job(0.1, 0.5, 0.9, end=1.0)))
    assert pace.settled
    assert not pace.together
    assert round(pace.tokens_in(1.0)) == 2
