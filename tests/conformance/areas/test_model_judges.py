"""Judges of model files, refused and loaded: green on a careful worker, red on exactly one defect."""

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
    health,
    instead,
    job,
    launched,
    lines,
    log,
    red,
    refused,
    replaced,
    spoiled,
    statuses,
    without,
)

FILES: dict[str, tuple[str, list[str]]] = {
    "version-4": ("M0-W-1200/other-versions", ["version"]),
    "bad-magic": ("M0-W-1210/magic", ["magic"]),
    "10000-tensors": ("M0-W-1210/tensor-count", ["tensor"]),
    "truncated": ("M0-W-1210/truncated", ["truncat"]),
    "too big": ("M0-W-1210/too-big", ["memory"]),
    "no-name": ("M0-W-1211/required-keys", ["general.name"]),
    "huge-string": ("M0-W-1211/hostile-header", []),
    "unknown-architecture": ("M0-W-1212/unknown-refused", ["bloom"]),
    "missing-tensor": ("M0-W-1214/missing-tensor", []),
    "unknown-pre": ("M0-W-1362/unknown-pre", []),
}


def refusing() -> Recording:
    launches = []
    for label, (_, words) in FILES.items():
        text = f"MODEL_LOAD_FAILED: the file is wrong: {' '.join(words)} (model '{MODEL}', gpu-device 0)"
        launches.append(refused(label, text))
    return Recording(
        "test",
        (),
        launches=launches,
        facts={
            "broken files": {label: {"clause": c, "words": w, "wrong": label} for label, (c, w) in FILES.items()},
            "given": {label: {"model": MODEL, "gpu_device": 0} for label in FILES},
        },
    )


OTHER = LogLine("stderr", 0.2, f"MODEL_LOAD_FAILED: the file cannot be used (model '{MODEL}', device 0)")
NOWHERE = LogLine("stderr", 0.1, "MODEL_LOAD_FAILED: the magic is wrong")
ERROR_ALONE = LogLine("stdout", 0.1, '{"event": "error"}')
REFUSALS: list[tuple[str, Spoil]] = [
    *((clause, changed(label, ready_at=0.5, exit_code=None, exited_at=None)) for label, (clause, _) in FILES.items()),
    ("M0-W-1211/hostile-header", changed("huge-string", exit_code=-11)),
    ("M0-W-1211/hostile-header", changed("huge-string", exited_at=38.0)),
    ("M0-W-1210/too-big", changed("too big", exited_at=38.0)),
    ("M0-W-1212/unknown-refused", lines("unknown-architecture", OTHER, log("error", 0.2))),
    ("M0-W-1210/exit-one", changed("truncated", exit_code=2)),
    ("M0-W-1210/exit-one", changed("truncated", exit_code=-11)),
    ("M0-W-1210/says-what", lines("bad-magic", OTHER, log("error", 0.2))),
    ("M0-W-1111/exit-code", changed("bad-magic", exit_code=0)),
    ("M0-W-1111/message", lines("bad-magic", log("error", 0.2, code="MODEL_LOAD_FAILED", message="bad magic"))),
    ("M0-W-1111/message", lines("truncated", LogLine("stderr", 0.1, f"truncated {MODEL} gpu 0"), log("error", 0.2))),
    (
        "M0-W-1111/context",
        lines("bad-magic", NOWHERE, ERROR_ALONE),
    ),
    ("M0-W-1410/load-failed-code", replaced("bad-magic", "MODEL_LOAD_FAILED", "INTERNAL_ERROR")),
    ("M0-W-1900/error", without("no-name", "error")),
]


def test_a_refusing_worker_is_green() -> None:
    assert all(seen == {Status.PASS} for seen in statuses(refusing(), "model_files").values())


@pytest.mark.parametrize(("clause", "spoil"), REFUSALS, ids=[clause for clause, _ in REFUSALS])
def test_each_defect_of_a_refusal_turns_its_clause_red_and_no_other(clause: str, spoil: Spoil) -> None:
    assert red(spoiled(refusing(), spoil), "model_files") == {clause}


def test_a_path_that_holds_the_word_is_no_message() -> None:
    path = "/models/corrupt-bad-magic.gguf"
    said = LogLine("stderr", 0.1, f"MODEL_LOAD_FAILED: cannot use {path} on gpu 0")
    recording = spoiled(
        refusing(),
        lines("bad-magic", said, log("error", 0.1)),
    )
    recording.facts["given"]["bad-magic"]["model"] = path
    assert red(recording, "model_files") == {"M0-W-1210/says-what"}


# ---- files that load ----------------------------------------------------------------------------------------------

FORMS: dict[str, tuple[list[str], str | None, str | None]] = {
    "script": (["M0-W-1201/q4-0-runs"], "abc", "Q4_0"),
    "script-llama": (["M0-W-1212/llama"], "abc", None),
    "script-q4-k-m": (["M0-W-1201/q4-k-m-runs"], "abc", "Q4_K_M"),
    "script-mxfp4": (["M0-W-1201/mxfp4-runs"], "abc", "MXFP4"),
    "aligned": (["M0-W-1211/alignment"], "abc", None),
    "without-scores": (["M0-W-1211/optional-keys"], "abc", None),
    "gpt2": (["M0-W-1212/gpt2"], None, None),
    "tied": (["M0-W-1214/tied-output"], None, None),
    "bias": (["M0-W-1214/attention-biases"], "rrr", None),
    "memory": (["M0-W-1230/qwen2-form"], "aaa", None),
    "phi3": (["M0-W-1230/phi3-form"], None, None),
    "gpt-oss": (["M0-W-1230/gpt-oss-form"], None, None),
}


def loading() -> Recording:
    exchanges = [job(f"job {label}", text or "xyz") for label, (_, text, _) in FORMS.items()]
    exchanges += [
        health(f"health {label}", quant_kind=kind, context_length=8192) for label, (_, _, kind) in FORMS.items() if kind
    ]
    exchanges += [job("position near", "abcdabcd"), job("far back", "kkkkkk"), job("only these", "xyzzyx")]
    return Recording(
        "test",
        (),
        exchanges=exchanges,
        launches=[launched(label) for label in FORMS if label != "script"],
        facts={
            "models": {
                label: {"clauses": clauses, "text": text, "format": kind, "context": 8192 if kind else None}
                for label, (clauses, text, kind) in FORMS.items()
            },
            "echoes": {"position near": "abcdabcd"},
            "remembered": {"far back": "kkkkkk"},
            "alphabets": {"only these": "xyz?"},
        },
    )


MISFITS: list[tuple[str, Spoil]] = [
    *((clauses[0], instead(job(f"job {label}", "zzz"))) for label, (clauses, text, _) in FORMS.items() if text),
    *(
        (clauses[0], changed(label, ready_at=None, exit_code=1))
        for label, (clauses, _, _) in FORMS.items()
        if label != "script"
    ),
    *(
        (clauses[0], instead(job(f"job {label}", "x", terminal=error("INTERNAL"))))
        for label, (clauses, _, _) in FORMS.items()
    ),
    ("M0-W-1201/q4-0-runs", instead(answered("job script", 500))),
    ("M0-W-1201/quant-kind-stored", instead(health("health script-mxfp4", quant_kind="Q4_0", context_length=8192))),
    ("M0-W-1211/context-length", instead(health("health script", quant_kind="Q4_0", context_length=32768))),
    ("M0-W-1430/positions", instead(job("position near", "aaaaaaaa"))),
    ("M0-W-1430/attends-to-context", instead(job("far back", "zzzzzz"))),
    ("M0-W-1430/attends-to-context", instead(job("only these", "xyaxyz"))),
]


def test_a_loading_worker_is_green() -> None:
    assert all(seen == {Status.PASS} for seen in statuses(loading(), "model_forms").values())


@pytest.mark.parametrize(("clause", "spoil"), MISFITS, ids=[clause for clause, _ in MISFITS])
def test_each_defect_of_a_model_turns_its_clause_red_and_no_other(clause: str, spoil: Spoil) -> None:
    assert red(spoiled(loading(), spoil), "model_forms") == {clause}


def test_a_context_that_the_worker_caps_or_does_not_know_is_fine() -> None:
    for value in (4096, None):
        capped = instead(health("health script", quant_kind="Q4_0", context_length=value))
        assert red(spoiled(loading(), capped), "model_forms") == set()
