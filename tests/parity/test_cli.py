"""The commands, their exit codes and what they write."""

from __future__ import annotations

import json
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from m0_models import miniatures
from m0_parity import live, overhead
from m0_parity.change import Patch, new_key, remove
from m0_parity.cli import main
from m0_parity.layerwise import lockstep
from m0_parity.llamacpp import abi
from m0_parity.overhead import Overhead
from m0_parity.rungs import dequantization, products, sampler
from m0_parity.rungs.base import Bench
from m0_worker.checkpoints import JobRecorder, Recorder, Settings
from m0_worker.devices import open_device
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return miniatures.write(tmp_path / "qwen2.gguf", "qwen2", "Q4_0")


def test_run_proves_a_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(model), "--length", "40", "--report-dir", str(tmp_path)]) == 0
    assert "equal within every bound" in capsys.readouterr().out
    results = json.loads((tmp_path / "parity.json").read_text())
    assert results["passed"]
    assert results["rows"][0]["measured"] <= 1e-10


def test_run_finds_a_planted_divergence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--plant", "v-bias-dropped", "--report-dir", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "first divergence: Vcur of layer 0, the values, at position 0 of request 'first'" in out
    assert "the mistake is made here" in out
    assert "looks like  the same offset at every position" in out
    assert "exit code 1: the difference planted here was found" in out
    page = (tmp_path / "parity.html").read_text()
    assert "first divergence" in page.lower()
    picture = tmp_path / "map.png"
    assert main(["report", str(tmp_path / "parity.json"), "--png", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_recordings_compare(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = miniatures.write(tmp_path / "other.gguf", "qwen2", "Q4_0", seed=1)
    a, b, c = (tmp_path / f"{name}.jsonl" for name in "abc")
    short = ["--length", "24", "--decode", "2"]
    assert main(["record", str(model), "-o", str(a), "--engine", "llama.cpp", *short]) == 0
    assert main(["record", str(model), "-o", str(b), *short]) == 0
    assert main(["record", str(other), "-o", str(c), *short]) == 0
    report = ["--report-dir", str(tmp_path)]
    assert main(["compare", str(b), str(b), *report]) == 0
    assert main(["compare", str(a), str(b), *report]) == 0  # llama.cpp ran on the float32 twin
    assert main(["compare", str(a), str(c), *report]) == 2
    assert "models differ" in capsys.readouterr().err
    assert main(["record", str(model), "-o", str(c), "--engine", "llama.cpp", "--native", *short]) == 0
    assert main(["compare", str(c), str(b), "--bound", "2e-3", *report]) == 0  # T5's bound
    capsys.readouterr()
    assert main(["compare", str(c), str(b), *report]) == 1  # activations of 8 bits
    assert "8-bit activations" in capsys.readouterr().out


def test_llamacpp_is_fed_what_another_engine_recorded(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker's own log (token ids, logits of some positions, leading values, FP16 cache) against llama.cpp."""
    log = tmp_path / "orch.jsonl"
    tap = Recorder(Settings(log)).job("a job")
    with GgufFile.open(model) as gguf:
        loaded = load_model(gguf, open_device("cpu"), n_ctx=64, kv_dtype="f16")
        with closing(loaded.open(12, SamplingParams(temperature=0.0), seed=0, tap=tap)) as job:
            for _ in job.prefill([7, 8, 9]):
                pass
            for _ in job.collect():
                pass
            for _ in range(3):
                job.launch()
                for _ in job.collect():
                    pass
    tap.close()
    other = str(tmp_path / "llama.jsonl")
    assert main(["record", str(model), "--engine", "llama.cpp", "--like", str(log), "-o", other]) == 0
    report = ["--report-dir", str(tmp_path)]
    assert main(["compare", other, str(log), "--bound", "1e-6", *report]) == 3  # the worker's log holds less
    out = capsys.readouterr().out
    assert "1 requests, 6 tokens" in out
    assert "equal within every bound" not in out
    assert "no difference where both sides have something; not compared: 30 checkpoints in the reference only" in out
    assert "Not compared: 30 checkpoints" in (tmp_path / "parity.html").read_text()
    assert main(["compare", other, str(log), "--bound", "1e-6", "--common", *report]) == 0
    assert "1 checkpoints of 1 requests; 30 checkpoints in the reference only" in capsys.readouterr().out
    assert main(["compare", other, str(log), *report]) == 1
    assert "FP16 cache" in capsys.readouterr().out


def test_a_prompt_longer_than_a_pass_of_llamacpp(model: Path, tmp_path: Path) -> None:
    assert main(["run", str(model), "--length", "520", "--decode", "1", "--report-dir", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["--length", "0"], "give 1 and 0 or more"),
        (["--length", "4000"], "the model has 2048; give a smaller --length"),
    ],
)
def test_what_does_not_fit_the_model(
    model: Path, arguments: list[str], cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(model), *arguments]) == 2
    assert cure in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "/nowhere/model.gguf"],
        ["compare", "/nowhere/a", "/nowhere/b"],
        ["report", "/nowhere/parity.json"],
        ["ladder", "--only", "T9"],
        ["selftest", "no-such-perturbation"],
    ],
)
def test_what_cannot_be_done_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("cannot compare: ")


def test_a_file_that_is_no_model_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("hello")
    assert main(["run", str(path)]) == 2
    assert "no GGUF" in capsys.readouterr().err


def test_dequantization_rung_is_bitwise_and_would_see_one_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(row.passed for row in dequantization.rung(512))
    honest = dequantization.dequantize

    def nearly(*arguments: object) -> object:
        values = honest(*arguments).copy()  # type: ignore[arg-type]  # whatever it is called with
        values.view(np.uint32).reshape(-1)[5] ^= 1
        return values

    monkeypatch.setattr(dequantization, "dequantize", nearly)
    assert {row.measured for row in dequantization.rung(512)} == {1}


def test_products_rung_proves_the_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "QUANTS", ("Q4_K_M", "Q5_1", "Q2_K"))
    assert all(row.passed for row in products.rung(Bench(tmp_path)))
    monkeypatch.setattr(products, "rounded", lambda x, _: x.astype("f8"))
    assert not any(row.passed for row in products.rung(Bench(tmp_path)))


def test_sampler_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(row.passed for row in sampler.rung(1))
    monkeypatch.setattr(sampler, "mersenne_uniform", lambda _: 0.5)
    assert not any(row.passed for row in sampler.rung(1))


def test_overhead_is_judged_by_its_interval() -> None:
    cheap = Overhead([0.001] * 30 + [0.5] * 5)
    assert cheap.typical == pytest.approx(0.001)
    assert cheap.verdict(0.01) is True
    scattered = Overhead(np.random.default_rng(0).normal(0.005, 0.05, 400).tolist())
    low, high = scattered.interval()
    assert 0.003 < (high - low) / 2 < 0.01  # a mean's would be 0.005
    noisy = Overhead(np.linspace(-0.2, 0.2, 40).tolist())
    assert noisy.verdict(0.01) is None
    assert Overhead(np.linspace(0.02, 0.03, 40).tolist()).verdict(0.01) is False


def test_overhead_is_measured(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["overhead", str(model), "--seconds", "0.5", "--bound", "9"]) == 0
    assert "recording adds" in capsys.readouterr().out
    assert main(["overhead", str(model), "--seconds", "0.5", "--bound", "-0.9"]) == 1
    assert "over -90.00%" in capsys.readouterr().out


def test_overhead_sees_a_slow_recorder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = JobRecorder.__call__

    def slow(self: JobRecorder, name: str, layer: int, array: np.ndarray) -> None:
        for _ in range(20):
            array.copy().sort()
        honest(self, name, layer, array)

    monkeypatch.setattr(JobRecorder, "__call__", slow)
    assert overhead.measure(model, seconds=0.5).verdict(0.01) is False


def test_another_build_of_llamacpp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi.importlib.metadata, "version", lambda _: "2026.1.1")
    with pytest.raises(abi.ReferenceUnavailableError, match=r"2026\.1\.1 is installed"):
        abi.library.__wrapped__()


def test_a_shifted_structure_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    library = abi.library()
    shifted = library.llama_context_default_params()
    shifted.offload_kqv = False
    monkeypatch.setattr(library, "llama_context_default_params", lambda: shifted)
    with pytest.raises(abi.ReferenceUnavailableError, match="offload_kqv is False"):
        abi._check_canaries(library)


def _cut(source: Path, target: Path, *, positions: int | None = None, tokens: int | None = None) -> Path:
    """A copy of a recording with fewer positions, or as if it had ended after some tokens; both sides' lines agree."""
    kept = []
    for raw in source.read_text().splitlines():
        line = json.loads(raw)
        line.pop("lines", None)
        if tokens is not None and "prompt" in line:
            line["token_ids"] = line["token_ids"][:tokens]
        if line["position"] < (positions or tokens or 0):
            kept.append(json.dumps(line))
    target.write_text("\n".join(kept) + "\n")
    return target


def test_a_candidate_that_leaves_out_where_it_is_wrong_is_not_equal(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, candidate = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for path, engine in ((reference, "llama.cpp"), (candidate, "worker")):
        assert main(["record", str(model), "-o", str(path), "--engine", engine, "--length", "20", "--no-vectors"]) == 0
    report = ["--report-dir", str(tmp_path)]
    assert main(["compare", str(reference), str(candidate), *report]) == 0
    only_first = _cut(candidate, tmp_path / "first.jsonl", positions=1)
    assert main(["compare", str(reference), str(only_first), *report]) == 3
    assert main(["compare", str(only_first), str(reference), *report]) == 3
    shorter = _cut(candidate, tmp_path / "shorter.jsonl", tokens=5)
    capsys.readouterr()
    assert main(["compare", str(reference), str(shorter), *report]) == 3
    assert "input tokens in the reference only" in capsys.readouterr().out
    assert main(["compare", str(shorter), str(reference), *report]) == 3
    assert json.loads((tmp_path / "parity.json").read_text())["missing"] != []


def test_run_takes_a_text_or_a_recording(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = ["--report-dir", str(tmp_path)]
    assert main(["run", str(model), "--prompt", "Write a haiku about frogs, please.", *report]) == 0
    requests = json.loads((tmp_path / "parity.json").read_text())["rows"][0]["requests"]
    assert [r["id"] for r in requests] == ["first", "second"]
    assert len(requests[0]["tokens"]) - requests[0]["prompt"] == 8
    log = tmp_path / "log.jsonl"
    assert main(["record", str(model), "-o", str(log), "--length", "20", "--decode", "2"]) == 0
    assert main(["run", str(model), "--like", str(log), *report]) == 0
    assert "feeding 20 + 2 and 17 + 2 tokens" in capsys.readouterr().out
    assert main(["run", str(model), "--prompt", "", *report]) == 2
    assert "prompt 1 has no tokens" in capsys.readouterr().err


def test_run_says_what_it_does_and_how_long_it_takes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = time.perf_counter()
    assert main(["run", str(model), "--length", "30", "--report-dir", str(tmp_path)]) == 0
    spent = time.perf_counter() - begun
    out = capsys.readouterr().out
    assert out.startswith("qwen2.gguf: qwen2, 2 layers, Q4_0, vocabulary of 320, ")
    assert "  layer 1 of 2, " in out
    assert json.loads((tmp_path / "parity.json").read_text())["seconds"] == pytest.approx(spent, abs=0.5)


def test_what_is_not_supported_is_said_before_anything_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr(live, "Sweep", never)
    sound = miniatures.write(tmp_path / "sound.gguf", "qwen2", "Q4_0")
    for change, words in (
        (partial(new_key, "general.architecture", "gemma3"), "architecture 'gemma3' is not supported"),
        (partial(new_key, "split.count", 3), "the file is one of 3 parts, and models in parts are not supported"),
        (partial(remove, ("blk.1.ffn_up.weight",)), "tensor blk.1.ffn_up.weight is missing"),
    ):
        patch = Patch(sound)
        change(patch)
        path = patch.write(tmp_path / "broken.gguf", str(patch.metadata.pop("general.architecture", "qwen2")))
        assert main(["run", str(path)]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ffn_norm", "result_output"])
def test_run_is_not_whole_without_a_checkpoint_of_the_worker(
    model: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lockstep, "WORKER_NAMES", lockstep.WORKER_NAMES - {name})
    assert main(["run", str(model), "--length", "20", "--report-dir", str(tmp_path)]) == 3
    out = capsys.readouterr().out
    assert "equal within every bound" not in out
    assert f"in the reference only: {name}" in out
