"""The GPU table says what was measured, what was not, and which goals were missed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench import gpu_report

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

OURS = {
    "decode@0": 1000.0,
    "decode@512": 900.0,
    "decode@4000": 800.0,
    "prefill 512": 9000.0,
    "prefill 2048": 9000.0,
    "engine stream, temperature 0": 1000.0,
    "event stream, temperature 0": 890.0,
    "cancel p95 ms": 2.0,
}
SIZES = {"bytes_per_token": 10**9, "weights_bytes": 1, "intermediates_bytes": 1, "device_bytes": 1, "file_bytes": 1}


def report(theirs: dict[str, float], *, bench: bool = True) -> dict[str, Any]:
    result = {"shape": "qwen2.5-0.5b", "worker": OURS, "llama.cpp": theirs, **SIZES, "failed": {}}
    tools = {"llama_bench": bench, "llama_server": False}
    return {"machine": {"device": "none"}, "copy_bytes_per_s": 2e12, "results": [result], **tools}


def line(text: str, what: str) -> list[str]:
    return next(
        cells for row in text.splitlines() if len(cells := [c.strip() for c in row.split("|")]) > 2 and cells[2] == what
    )


def test_ratios_goals_and_what_was_not_run() -> None:
    text = gpu_report.table(report({"decode@0": 400.0, "decode@512": 600.0, "cancel p95 ms": 4.0}))
    assert line(text, "decode@0")[3:7] == ["1,000", "400.0", "2.50", ">= 2 times: met"]
    assert line(text, "decode@512")[6] == ">= 2 times: MISSED"
    assert line(text, "decode@4000")[6] == ">= 2 times: not compared"
    assert line(text, "cancel p95 ms")[5:7] == ["2.00", "< 100: met"]
    assert line(text, "decode@0 share of copy bandwidth")[3] == "0.50"
    assert line(text, "event stream, share of the engine")[3:7] == ["0.89", "", "", ">= 0.9: MISSED"]
    assert "llama-server was not run" in text
    assert "llama-bench was not run" not in text


def test_a_part_that_failed_is_told_and_what_was_measured_is_kept() -> None:
    measured = report({"decode@0": 400.0})
    measured["results"][0]["failed"] = {"llama-server": "RuntimeError: llama-server did not get ready"}
    text = gpu_report.table(measured)
    assert "**qwen2.5-0.5b, llama-server: failed**" in text
    assert line(text, "decode@0")[5] == "2.50"


def test_table_json_and_picture_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = report({name: value / 2 for name, value in OURS.items()})
    gpu_report.write(measured, tmp_path)
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8")) == measured
    assert (tmp_path / "gpu.md").read_text(encoding="utf-8") == capsys.readouterr().out
    assert (tmp_path / "gpu.png").read_bytes().startswith(b"\x89PNG")
