"""Judges of start, log, life, neighbours and SIGTERM: green on a good worker, red on exactly one defect."""

from __future__ import annotations

import json

import pytest
from m0_conformance.judging.finding import Status
from m0_conformance.judging.launches import log_event
from m0_conformance.recording.transcript import LogLine, Recording
from process_recordings import (
    MODEL,
    WORKER_ID,
    Spoil,
    answered,
    changed,
    error,
    fact,
    health,
    instead,
    job,
    launched,
    lines,
    log,
    red,
    replaced,
    spoiled,
    statuses,
    without,
)

START = [
    log("startup", 0.1),
    log("model_load_start", 0.2),
    *(log("model_load_progress", 0.2 + percent / 1000, percent=percent) for percent in (0, 25, 50, 75, 100)),
    log("model_load_complete", 1.4),
    log("ready", 1.5),
]
LIFE = [
    *START,
    *(log(name, 2.0, job_id=label) for label in ("first", "again") for name in ("execute_start", "execute_end")),
    log("shutdown", 3.0),
]
MODULES = ("startup", "logs", "process")


def good() -> Recording:
    ended = {"exit_code": 0, "exited_at": 3.2, "signals": [("SIGTERM", 3.0)]}
    facts = {"model": "m", "vocab_size": 10, "context_length": 8, "quant_kind": "Q4_0", "tokenizer_kind": "gguf-bpe"}
    return Recording(
        "test",
        (),
        exchanges=[
            health("early health", 1.55),
            health("at ready", 1.51),
            health("health", 1.6),
            job("before the restart", "abc", at=0.0, port=1),
            job("first", "abc", at=1.7),
            job("again", "abc", at=1.8),
            job("left alone", "abc", port=2),
            job("right alone", "abc", port=3),
            job("left beside", "abc", port=2),
            job("right beside", "abc", port=3),
            health("health before the replacement", 2.0, port=2, **facts),
            health("health after the replacement", 2.1, port=2, **facts),
            job("after the replacement", "abc", at=2.2, port=2),
            job("beside the killed", "a" * 50, at=2.5, port=3),
            job("after the killed", "ab", at=3.5, port=3),
            job("running", "a" * 100, at=4.0, port=3),
            answered("late", 503, at=4.6),
            answered("shutdown", 202),
        ],
        launches=[
            launched("start", lines=list(START), **ended),
            launched("life", lines=list(LIFE), **ended),
            launched("left", port=2, exit_code=-9, exited_at=2.7, signals=[("SIGKILL", 2.6)]),
            launched("right", port=3, exit_code=0, exited_at=5.5, signals=[("SIGTERM", 4.4)]),
            launched("callback", exit_code=0, exited_at=2.0),
        ],
        facts={
            "given": {"life": {"worker_id": WORKER_ID, "model": MODEL, "gpu_device": 0}},
            "other programs": [],
            "processes left": [],
            "port free": True,
            "file replaced": True,
            "neighbour killed at": 2.6,
            "words in a prompt": ["canary123"],
            "words in an answer": ["abcdefghijklmnopqrst"],
            "reachable from outside": False,
        },
    )


def swapped(label: str, left: str, right: str) -> Spoil:
    """Exchange the places of two events in a log."""

    def spoil(recording: Recording) -> None:
        launch = recording.launch(label)
        assert launch is not None
        names = [event.name if (event := log_event(line)) is not None else "" for line in launch.lines]
        one, other = names.index(left), names.index(right)
        launch.lines[one], launch.lines[other] = launch.lines[other], launch.lines[one]

    return spoil


DEFECTS: list[tuple[str, Spoil]] = [
    ("M0-W-1110/closed-until-loaded", instead(health("early health", 0.05))),
    ("M0-W-1110/closed-until-loaded", instead(health("early health", 0.6))),
    ("M0-W-1110/closed-until-loaded", instead(job("early job", "a", at=0.6, port=9))),
    ("M0-W-1110/ready-serves", instead(answered("at ready", None, at=1.51))),
    ("M0-W-1110/ready-serves", instead(health("at ready", 2.4))),
    ("M0-W-1110/event-order", swapped("start", "startup", "model_load_start")),
    ("M0-W-1110/event-order", swapped("start", "model_load_complete", "ready")),
    ("M0-W-1120/ready-60s", changed("start", ready_at=75.0, exited_at=80.0, signals=[("SIGTERM", 79.0)])),
    ("M0-W-1621/percentages", without("start", "model_load_progress")),
    ("M0-W-1621/percentages", replaced("start", '"percent": 50', '"percent": 49')),
    ("M0-W-1621/rising", swapped("start", "model_load_progress", "model_load_start")),
    ("M0-W-1621/rising", lines("start", *START[:2], *(START[i] for i in (2, 5, 4, 3, 6)), *START[7:])),
    *(
        (f"M0-W-1900/{name.replace('_', '-')}", without("life", name))
        for name in (
            "startup",
            "model_load_start",
            "model_load_complete",
            "ready",
            "execute_start",
            "execute_end",
            "shutdown",
        )
    ),
    ("M0-W-1900/execute-end", lines("life", *LIFE, log("execute_end", 3.1, job_id="first"))),
    ("M0-W-1900/context", replaced("life", WORKER_ID, "another")),
    ("M0-W-1900/context", replaced("life", '"gpu_device": 0', '"gpu_device": 1')),
    ("M0-W-1900/context", replaced("life", '"model_ref"', '"path"')),
    ("M0-W-1900/job-id", replaced("life", '"job_id"', '"id"')),
    ("M0-SYS-2.4.1/standalone", changed("life", ready_at=None, exit_code=1)),
    ("M0-SYS-2.4.2/leaves-nothing", fact("processes left", ["python"])),
    ("M0-SYS-2.4.2/leaves-nothing", fact("port free", False)),
    ("M0-W-1365/no-child-process", fact("other programs", ["tokenizer --serve"])),
    ("M0-SYS-2.3.1/after-restart", instead(job("before the restart", "abd", port=1))),
    ("M0-W-1820/whole-life", instead(job("again", "abd", at=1.8))),
    ("M0-W-1820/whole-life", changed("life", exit_code=3)),
    ("M0-SYS-6.3.2/two-workers", instead(job("left beside", "xyz", port=2))),
    ("M0-SYS-6.3.2/two-workers", instead(job("right beside", "a", port=3, terminal=None))),
    ("M0-SYS-6.3.2/survives-neighbour", instead(job("beside the killed", "a" * 20, at=2.5, port=3, terminal=None))),
    ("M0-SYS-6.3.2/survives-neighbour", instead(answered("after the killed", None))),
    ("M0-W-1002/file-replaced", instead(job("after the replacement", "xyz", port=2))),
    ("M0-W-1002/file-replaced", instead(health("health after the replacement", 2.1, port=2, model="other"))),
    ("M0-W-1340/sigterm-exit-zero", changed("start", exit_code=1)),
    ("M0-W-1340/sigterm-exit-zero", changed("start", exit_code=-15)),
    ("M0-W-1340/sigterm-idle-deadline", changed("start", exited_at=9.0)),
    ("M0-W-1340/sigterm-idle-deadline", changed("start", exit_code=None, exited_at=None)),
    ("M0-W-1340/sigterm-finishes-job", instead(job("running", "a" * 80, at=4.0, port=3, max_tokens=100))),
    (
        "M0-W-1340/sigterm-finishes-job",
        instead(job("running", "a" * 80, at=4.0, port=3, max_tokens=100, terminal=error("CANCELLED"))),
    ),
    (
        "M0-W-1340/sigterm-finishes-job",
        instead(job("running", "a" * 80, at=4.0, port=3, max_tokens=100, terminal=None)),
    ),
    ("M0-W-1340/sigterm-refuses-new", instead(job("late", "ab", at=4.6, port=3))),
    ("M0-W-1340/sigterm-refuses-new", instead(answered("late", 500, at=4.6))),
    ("M0-W-1340/sigterm-busy-deadline", changed("right", exit_code=1)),
    ("M0-W-1340/sigterm-busy-deadline", changed("right", exited_at=36.0)),
    ("M0-W-1340/sigterm-busy-deadline", changed("right", exit_code=None, exited_at=None)),
]
INFORMATION: list[tuple[str, Spoil]] = [
    ("M0-W-1901/absent", replaced("life", '"execute_end",', '"execute_end", "tokens_out": 3,')),
    ("M0-W-1902/no-prompt", replaced("life", '"execute_start",', '"execute_start", "prompt": "canary123 *",')),
    ("M0-W-1902/no-output", replaced("life", '"execute_end",', '"execute_end", "text": "abcdefghijklmnopqrst",')),
    ("M0-W-1630/within-5s", changed("right", exited_at=11.0)),
    ("M0-W-1340/shutdown-endpoint", changed("callback", exit_code=1)),
]
RECORDED = {"M0-W-1110/binds-all-interfaces"}


def all_statuses(recording: Recording) -> dict[str, set[Status]]:
    return {clause: seen for module in MODULES for clause, seen in statuses(recording, module).items()}


def all_red(recording: Recording) -> set[str]:
    return set().union(*(red(recording, module) for module in MODULES))


def test_a_good_worker_is_green() -> None:
    found = all_statuses(good())
    assert {clause for clause, seen in found.items() if seen != {Status.PASS}} == RECORDED
    assert found["M0-W-1110/binds-all-interfaces"] == {Status.INFO}


@pytest.mark.parametrize(("clause", "spoil"), DEFECTS, ids=[clause for clause, _ in DEFECTS])
def test_each_defect_turns_its_clause_red_and_no_other(clause: str, spoil: Spoil) -> None:
    assert all_red(spoiled(good(), spoil)) == {clause}


@pytest.mark.parametrize(("clause", "spoil"), INFORMATION, ids=[clause for clause, _ in INFORMATION])
def test_what_the_spec_defers_is_information(clause: str, spoil: Spoil) -> None:
    recording = spoiled(good(), spoil)
    assert all_red(recording) == set()
    assert Status.INFO in all_statuses(recording)[clause]


def test_a_port_that_says_503_while_loading_is_fine() -> None:
    recording = spoiled(good(), instead(health("early health", 0.6, status=503)))
    assert all_red(recording) == set()


def test_a_log_that_comes_all_at_once_tells_no_moments() -> None:
    late = [LogLine(line.stream, 2.9, line.text) for line in START]
    assert "M0-W-1110/closed-until-loaded" not in all_red(spoiled(good(), lines("start", *late)))


def test_events_below_fields_and_on_stderr_count() -> None:
    def nested(line: LogLine) -> LogLine:
        value = json.loads(line.text)
        return LogLine("stderr", line.at, json.dumps({"level": "INFO", "fields": value}))

    recording = spoiled(good(), lines("start", *map(nested, START)), lines("life", *map(nested, LIFE)))
    assert all_red(recording) == set()


@pytest.mark.parametrize(("key", "form"), [("progress", "{}"), ("percentage", "{} %"), ("pct", "{}%")])
def test_percentages_by_other_names_and_forms(key: str, form: str) -> None:
    events = [log("model_load_progress", 0.3, **{key: form.format(value)}) for value in (0, 25, 50, 75, 100)]
    assert all_red(spoiled(good(), lines("start", *START[:2], *events, *START[7:]))) == set()


def test_shares_are_percentages_too() -> None:
    shares = [log("model_load_progress", 0.3, progress=share) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert all_red(spoiled(good(), lines("start", *START[:2], *shares, *START[7:]))) == set()


def test_a_signal_that_came_too_late_proves_nothing() -> None:
    late = changed("right", signals=[("SIGTERM", 5.3)], exited_at=5.5)
    found = all_statuses(spoiled(good(), late))
    assert found["M0-W-1340/sigterm-finishes-job"] == found["M0-W-1340/sigterm-refuses-new"] == set()


def test_a_closed_port_refuses_as_well_as_503() -> None:
    assert all_red(spoiled(good(), instead(answered("late", None, at=4.6)))) == set()
