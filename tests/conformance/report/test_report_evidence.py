"""What is embedded, what is drawn, and that nothing is cut in silence."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest
from m0_conformance.report.evidence import embed, folder_store, weight
from m0_conformance.report.shown import Row, pick_rows, rhythm, show_recording
from m0_conformance.report.timeline import TALL, WIDTH, draw, nice_axis
from report_sample import replayed_stream
from report_streams import START_UP, answer, execute, process, recording, steady, words

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Recording
    from m0_conformance.report.timeline import Timeline
    from report_pages import Made


def drawing(item: Recording, mark_at: float | None = None) -> Timeline:
    shown = show_recording(item, item.sha, {}, 8)
    return draw(shown, max(shown.parts, key=lambda part: len(part.arrivals)), mark_at)


def staircase(timeline: Timeline) -> list[tuple[int, int]]:
    """(x, y) of each step of the tall lane."""
    path = re.search(r'class="stair" d="M\d+ \d+(.*?)H\d+V\d+Z"', timeline.lanes[0].svg)
    assert path is not None
    return [(int(x), int(y)) for x, y in re.findall(r"H(\d+)V(\d+)", path[1])]


def test_a_steady_stream_is_a_diagonal() -> None:
    steps = staircase(drawing(recording("c", [execute(words(100), steady(100, 0.01, random.Random(1)))])))
    assert len(steps) > 40
    (x0, y0), (x1, y1) = steps[0], steps[-1]
    for x, y in steps:
        assert abs(y - (y0 + (y1 - y0) * (x - x0) / (x1 - x0))) < 3


def test_a_replayed_stream_is_a_cliff_at_its_end() -> None:
    timeline = drawing(replayed_stream())
    steps = staircase(timeline)
    assert steps[0][0] > 0.95 * WIDTH
    assert steps[-1][0] - steps[0][0] <= 3
    assert "all 62 events within 2.44 ms, after the wait" in timeline.caption
    wait = re.search(r'class="wait" x="0" y="\d+" width="(\d+)"', timeline.lanes[0].svg)
    assert wait is not None
    assert int(wait[1]) > 0.95 * WIDTH


def test_a_stalled_stream_is_a_plateau() -> None:
    times = [at + (0.9 if index > 30 else 0.0) for index, at in enumerate(steady(50, 0.008, random.Random(1)))]
    timeline = drawing(recording("c", [execute(words(50), times)]))
    gaps = [later[0] - earlier[0] for earlier, later in zip(staircase(timeline), staircase(timeline)[1:], strict=False)]
    assert max(gaps) > 0.6 * WIDTH
    assert "longest silence 90" in timeline.caption
    assert "before event 31" in timeline.caption


def test_what_happened_meanwhile_shares_the_axis_one_lane_a_name() -> None:
    timeline = drawing(replayed_stream())
    assert [(lane.title, lane.count, lane.focus) for lane in timeline.lanes] == [
        ("POST /execute", 1, True),
        ("GET /health", 12, False),
    ]
    spans = [int(x) for x in re.findall(r'class="span" x="(\d+)"', timeline.lanes[1].svg)]
    assert spans == [round(WIDTH * 0.1 * n / 1.25) for n in range(12)]
    assert timeline.axis == ["0 s", "250 ms", "500 ms", "750 ms", "1 s", "1.25 s"]


def test_lanes_beyond_the_sixth_are_counted() -> None:
    polls = [answer(200, {}, exchange=f"x{n + 2}", label=f"poll {n}", path="/health", t0=0.01 * n) for n in range(9)]
    timeline = drawing(recording("c", [execute(words(60), steady(60, 0.01, random.Random(1))), *polls]))
    assert len(timeline.lanes) == 7
    assert timeline.left_out == 3


def test_a_process_shows_its_log_lines_and_moments() -> None:
    worker = process(START_UP, code=0, exited=3.0, signals=[("SIGTERM", 2.0)])
    timeline = drawing(recording("c", [worker]), mark_at=2.0)
    assert timeline.moments == "ready 610 ms, SIGTERM 2 s, exit 0 3 s"
    assert f'class="fault" d="M{round(WIDTH * 2 / 3)} 0v{TALL}"' in timeline.lanes[0].svg


@pytest.mark.parametrize("span", [1e-6, 0.001, 0.0123, 0.5, 0.999, 1.0, 1.24, 5.99, 7, 9.9, 60, 3601])
def test_the_axis_is_round_and_covers(span: float) -> None:
    divisions, step = nice_axis(span)
    assert 2 <= divisions <= 6
    assert divisions * step >= span * (1 - 1e-6)
    assert (divisions - 1) * step < span
    assert f"{step:.0e}"[0] in "125" or f"{step:.1e}"[:3] == "2.5"


def test_an_exchange_without_any_answer_is_drawn_too() -> None:
    dead = answer(200, {}, exchange="x1", label="dead", path="/health")
    dead.status, dead.chunks, dead.head_at, dead.closed_at, dead.end = None, [], None, None, "refused"
    shown = show_recording(recording("c", [dead]), "0" * 64, {}, 8)
    assert "no answer: refused" in shown.parts[0].facts
    assert 'class="fault"' in draw(shown, shown.parts[0], 0.0).lanes[0].svg


def rows(count: int) -> list[Row]:
    return [Row(n, n / 10, "", f"row {n}") for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 16, 17, 40, 2_000])
@pytest.mark.parametrize("marked", [set(), {0}, {15}, {999}, {1_999}, {5_000}])
def test_rows_left_out_are_counted_to_the_last_one(count: int, marked: set[int]) -> None:
    picked, after = pick_rows(rows(count), marked)
    assert len(picked) + sum(row.skipped for row in picked) + after == count
    assert after == 0
    assert {row.number for row in picked} >= {number for number in marked if number < count}
    assert [row.number for row in picked] == sorted({row.number for row in picked})
    assert len(picked) <= 16 + 17 * len(marked)


def test_rhythm_names_what_stands_out() -> None:
    assert rhythm([], 1.0, "event") == []
    assert rhythm([0.01], 0.02, "event") == ["first event after 10 ms"]
    assert rhythm([0.1, 0.2, 0.7], 0.8, "event")[1] == "longest silence 500 ms, before event 2"
    assert rhythm([0.9, 0.901, 0.902], 1.0, "event")[1] == "all 3 events within 2 ms, after the wait"


def test_a_recording_whose_bytes_changed_is_not_shown(bad: Made, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("changed")
    (folder / "transcripts").mkdir()
    sha = next(iter(bad.report["recordings"]))
    data = (bad.folder / "transcripts" / f"{sha}.json").read_bytes()
    (folder / "transcripts" / f"{sha}.json").write_bytes(data)
    assert folder_store(folder)(sha) is not None
    (folder / "transcripts" / f"{sha}.json").write_bytes(data.replace(b"holds", b"folds"))
    assert folder_store(folder)(sha) is None
    assert folder_store(folder)("0" * 64) is None


def test_recordings_of_findings_come_first_and_the_budget_holds(bad: Made) -> None:
    store = folder_store(bad.folder)
    everything = embed(bad.report, store, budget=10_000_000)
    failing = {f["transcript"] for r in bad.report["requirements"] for c in r["clauses"] for f in c["findings"]}
    assert {shown.sha for shown in everything[: len(failing)]} == failing
    few = embed(bad.report, store, budget=30_000)
    assert {shown.sha for shown in few} == failing
    assert sum(map(weight, few)) < 60_000
    assert len(embed(bad.report, store, budget=0)) == 1
