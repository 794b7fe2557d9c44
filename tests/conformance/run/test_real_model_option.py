"""--real-model: checks that are no part of a run without it, and that see a model whose weights say nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from m0_conformance.spec.check_sets import ANY, frozen_checks
from m0_models import miniatures, probes

if TYPE_CHECKING:
    from pathlib import Path

OWN = {f"real_model::{name}" for name in ("test_haiku", "test_whole_life", "test_form", "test_missing_tensor")}


def _run(folder: Path, *words: str) -> tuple[int, dict[str, str], str]:
    """A run of a few clauses: its exit code, the status of each requirement, and what it printed."""
    command = [sys.executable, "-P", "-m", "m0_conformance", "run", "--report-dir", os.fspath(folder), *words]
    command += [f"--requirement={clause}" for clause in ("M0-W-1230/qwen2-form", "M0-W-1826*")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    clauses = {c["id"]: c["status"] for r in report["requirements"] for c in r["clauses"]}
    return done.returncode, clauses, done.stdout


def test_no_profile_needs_a_real_model() -> None:
    for profile in ("m0-wire", "m0-process", "m0"):
        assert not OWN & (frozen_checks(profile) or frozenset())
    assert frozen_checks(ANY) is not None
    assert (frozen_checks(ANY) or frozenset()) >= OWN


def test_without_the_option_its_checks_are_no_part_of_the_run(tmp_path: Path) -> None:
    _, clauses, said = _run(tmp_path)
    assert clauses["M0-W-1826/identical-tokens"] == "PASS"
    assert "real_model" not in (tmp_path / "report.json").read_text(encoding="utf-8")
    assert "FAIL" not in said


def test_a_model_whose_weights_are_heard_passes(tmp_path: Path) -> None:
    model = miniatures.write(tmp_path / "model.gguf", "qwen2", "Q4_0")
    _, clauses, said = _run(tmp_path, f"--real-model={model}")
    assert clauses["M0-W-1230/qwen2-form"] == "PASS", said
    assert clauses["M0-W-1826/identical-tokens"] == "PASS", said
    assert "saw nothing that decides this clause" not in said  # of other architectures' forms it claims nothing
    assert "real_model::test_form" in (tmp_path / "report.json").read_text(encoding="utf-8")


def test_a_model_that_says_the_same_without_one_of_its_tensors_fails(tmp_path: Path) -> None:
    """The probe's layers are zeros already, so the worker cannot say anything else: the check must notice."""
    model = probes.catalogue()["script"].write(tmp_path / "model.gguf").path
    code, clauses, said = _run(tmp_path, f"--real-model={model}")
    assert code == 1
    assert clauses["M0-W-1230/qwen2-form"] == "FAIL"
    assert "with one tensor of the model zeroed the answer is the same" in said


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (["--real-model=/nowhere/model.gguf"], "no GGUF file that can be read"),
        ([f"--real-model={__file__}"], "no GGUF file that can be read"),
        ([f"--real-model={__file__}", "--worker-url=http://127.0.0.1:9"], "give --worker-command, not --worker-url"),
    ],
)
def test_what_cannot_be_meant_is_exit_2_before_anything_runs(tmp_path: Path, words: list[str], cure: str) -> None:
    command = [sys.executable, "-P", "-m", "m0_conformance", "run", f"--report-dir={tmp_path / 'report'}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert cure in done.stderr + done.stdout
    assert not (tmp_path / "report" / "report.json").exists()
