"""Real models, fetched by name: `nox -s real`. What `m0-parity run` says of them, what it takes, what it finds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from m0_models.fetch import fetch
from m0_models.real import QUESTION, known, register
from m0_parity.cli import main
from m0_parity.haiku.client import Worker
from m0_parity.haiku.greedy import follow
from m0_parity.perturbed import smollm2
from m0_parity.selftest import RealBench

if TYPE_CHECKING:
    from m0_parity.perturb import Perturbation

pytestmark = pytest.mark.real

LIMITS = {
    "smollm2-135m": (120, 1.5e9),
    "qwen2.5-coder-0.5b": (300, 3e9),
    "qwen2.5-coder-1.5b": (900, 5e9),
}
"""Seconds on two cores, and bytes of memory at most."""


@pytest.mark.parametrize("name", LIMITS)
def test_run_says_equal_within_time_and_memory(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds, memory = LIMITS[name]
    command = [sys.executable, "-P", "-m", "m0_parity", "run", str(fetch(name)), "--report-dir", str(tmp_path)]
    begun = time.perf_counter()
    with (tmp_path / "said.txt").open("w+") as said:
        child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        spent = time.perf_counter() - begun
        said.seek(0)
        text = said.read()
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {spent:.0f} s, at most {used.ru_maxrss * 1024 / 1e9:.2f} GB\n")
    assert child.returncode == 0, text
    assert "equal within every bound" in text
    assert spent < seconds
    assert used.ru_maxrss * 1024 < memory


@pytest.mark.parametrize("name", [name for name, model in register().items() if model.refused])
def test_what_is_not_supported_is_refused_in_a_second(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch(name)
    begun = time.perf_counter()
    assert main(["run", str(path)]) == 2
    assert time.perf_counter() - begun < 1
    words = {"gemma3-270m": "architecture 'gemma3' is not supported"}.get(name, "the file is truncated")
    assert words in capsys.readouterr().err


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> RealBench:
    return RealBench(fetch("smollm2-135m"), tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("planted", smollm2.ALL, ids=lambda p: p.name)
def test_a_perturbation_of_a_real_model_is_found_and_placed(bench: RealBench, planted: Perturbation) -> None:
    outcome = bench.run(planted)
    assert outcome.divergence is not None
    assert outcome.found, outcome.divergence.sentence()


def test_twenty_are_planted() -> None:
    assert len({p.name for p in smollm2.ALL}) == 20


def test_the_readme_shows_what_the_model_says() -> None:
    """The request of README's first screen, sent to a worker; started, one token a piece, the text as it is printed."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    sent = re.search(r"curl .* -d '(\{.*\})' \S+/execute", readme)
    shown = re.search(r"Its (\d+) tokens are \*(.+?)\*", readme)
    assert sent is not None
    assert shown is not None
    body = json.loads(sent[1])
    with Worker(fetch("qwen2.5-coder-0.5b"), "cpu") as worker:
        answer = worker.ask(body["prompt"], temperature=body["temperature"], seed=42, max_tokens=body["max_tokens"])
    assert answer.text.replace("\n", " / ") == shown[2]
    assert len(answer.pieces) == int(shown[1])
    assert answer.stop == "EOS"


def test_a_real_model_writes_a_haiku(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["haiku", "--model", "smollm2-135m", "--word", "river", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("every check passed\n")
    assert "ok    greedy: llama.cpp's token at" in out


@pytest.mark.parametrize("name", [name for name, model in register().items() if model.says])
def test_the_register_says_what_llamacpp_says_without_a_doubt(name: str, tmp_path: Path) -> None:
    model, path = register()[name], fetch(name)
    assert known(path) == model
    steps = follow(path, QUESTION, model.says, tmp_path)
    assert all(step.ours == step.theirs == step.exact for step in steps)
    assert all(step.sure for step in steps)
    with Worker(path, "cpu") as worker:
        answer = worker.ask(QUESTION, temperature=0.0, seed=1, max_tokens=24)
    assert answer.text == model.says
    assert answer.stop == "EOS"
