"""The command line's judges: green on a careful worker, red on exactly one defect."""

from __future__ import annotations

import pytest
from m0_conformance.judging.finding import Status
from m0_conformance.recording.transcript import LogLine, Recording
from process_recordings import (
    MODEL,
    Spoil,
    answered,
    changed,
    error,
    fact,
    instead,
    job,
    launched,
    lines,
    log,
    red,
    refused,
    spoiled,
    statuses,
)

CASES = {
    "no worker id": ("required", "--worker-id"),
    "no model": ("required", "--model"),
    "no device number": ("required", "--gpu-device"),
    "no port": ("required", "--port"),
    "letters": ("worker-id-uuid", "--worker-id"),
    "missing": ("model-exists", "--model"),
    "directory": ("model-readable", "--model"),
    "negative": ("gpu-device-valid", "--gpu-device"),
    "1023": ("port-range", "--port"),
    "in use": ("port-free", "--port"),
}


def careful() -> Recording:
    wrong = [refused(label, f"{argument} is wrong", 2) for label, (_, argument) in CASES.items()]
    for launch in wrong:
        launch.lines = [line for line in launch.lines if line.stream == "stderr"]
    return Recording(
        "test",
        (),
        exchanges=[
            job("long prompt", [], terminal=error("INVALID_REQUEST")),
            job("short prompt", "ab"),
            job("long answer", "abcde", max_tokens=20),
            job("slow job", "a" * 20, step=0.05, terminal=error("INFERENCE_TIMEOUT")),
        ],
        launches=[*wrong, launched("callback"), launched("both"), launched("timeout")],
        facts={
            "wrong arguments": {label: {"clause": c, "argument": a} for label, (c, a) in CASES.items()},
            "given": {label: {"model": MODEL} for label in CASES},
            "port open at callback": True,
            "options": {
                "--max-tokens-in": {"launch": "both", "value": 8},
                "--max-tokens-out": {"launch": "both", "value": 5},
                "--inference-timeout-sec": {"launch": "timeout", "value": 1},
            },
        },
    )


def accepts(label: str) -> Spoil:
    return changed(label, exit_code=None, exited_at=None, ready_at=0.4)


DEFECTS: list[tuple[str, Spoil]] = [
    ("M0-W-1100/required", accepts("no port")),
    ("M0-W-1100/required", changed("no model", exit_code=0)),
    ("M0-W-1100/worker-id-uuid", accepts("letters")),
    ("M0-W-1100/model-exists", changed("missing", exit_code=0)),
    ("M0-W-1100/model-readable", accepts("directory")),
    ("M0-W-1100/gpu-device-valid", accepts("negative")),
    ("M0-W-1100/port-range", accepts("1023")),
    ("M0-W-1100/port-free", changed("in use", exit_code=None, exited_at=None)),
    ("M0-W-1100/names-argument", lines("letters", LogLine("stderr", 0.1, "invalid value"))),
    ("M0-W-1100/names-argument", lines("missing", LogLine("stderr", 0.1, f"{MODEL}: no such file"))),
    ("M0-W-1100/names-argument", lines("letters")),
    ("M0-W-1100/before-load", changed("in use", exited_at=9.0)),
    (
        "M0-W-1100/before-load",
        lines("in use", log("model_load_start", 0.1), LogLine("stderr", 0.2, "port is taken")),
    ),
    ("M0-W-1100/callback-accepted", changed("callback", ready_at=None, exit_code=2)),
    ("M0-W-1101/max-tokens-in", instead(job("long prompt", "ab"))),
    ("M0-W-1101/max-tokens-in", instead(answered("short prompt", 400))),
    ("M0-W-1101/max-tokens-out", instead(job("long answer", "abcdef", max_tokens=20))),
    ("M0-W-1101/inference-timeout", instead(job("slow job", "a" * 60, step=0.05))),
    ("M0-W-1101/inference-timeout", instead(job("slow job", "a" * 60, step=0.05, terminal=None))),
]


def test_a_careful_worker_is_green() -> None:
    assert all(seen == {Status.PASS} for seen in statuses(careful(), "arguments").values())


@pytest.mark.parametrize(("clause", "spoil"), DEFECTS, ids=[clause for clause, _ in DEFECTS])
def test_each_defect_turns_its_clause_red_and_no_other(clause: str, spoil: Spoil) -> None:
    assert red(spoiled(careful(), spoil), "arguments") == {clause}


def test_a_worker_without_the_options_is_not_judged_by_them() -> None:
    gone = changed("both", ready_at=None, exit_code=2)
    seen = statuses(spoiled(careful(), gone), "arguments")
    assert seen["M0-W-1101/max-tokens-in"] == seen["M0-W-1101/max-tokens-out"] == {Status.NA}


def test_limits_kept_in_other_ways_are_fine() -> None:
    other = [instead(answered("long prompt", 400)), instead(answered("long answer", 400))]
    assert red(spoiled(careful(), *other), "arguments") == set()


def test_a_job_that_was_over_in_time_shows_no_timeout() -> None:
    seen = statuses(spoiled(careful(), instead(job("slow job", "abc"))), "arguments")
    assert seen["M0-W-1101/inference-timeout"] == set()


def test_a_callback_before_the_port_is_information() -> None:
    seen = statuses(spoiled(careful(), fact("port open at callback", False)), "arguments")
    assert seen["M0-W-1110/callback-after-bind"] == {Status.INFO}
