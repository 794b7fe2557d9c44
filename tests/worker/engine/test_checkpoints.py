"""The recorder: settings, lines, vectors, words for what is no number, and nothing lost."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from engine_by_hand import GREEDY, drain, load, next_token
from m0_worker import checkpoints
from m0_worker.checkpoint_copies import Copies
from m0_worker.checkpoints import JobRecorder, Recorder, Settings

if TYPE_CHECKING:
    from pathlib import Path

OLD_FIELDS = ("ts", "team", "checkpoint", "token_idx", "dtype", "shape", "values")
F32_MAX = float(np.finfo(np.float32).max)


def settings(tmp_path: Path, **environment: str) -> Settings:
    found = Settings.from_environment({"ORCH_LOG_FILE": str(tmp_path / "log.jsonl"), **environment})
    assert found is not None
    return found


def lines(found: Settings) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found.path.read_text().splitlines()]


def record(found: Settings, model: Any, prompt: list[int], n: int) -> list[dict[str, Any]]:
    tap = Recorder(found, model="m").job("job-1")
    job = model.open(len(prompt) + n, GREEDY, seed=0, tap=tap)
    drain(job.prefill(prompt))
    drain(job.collect())
    for _ in range(n):
        next_token(job)
    job.close()
    tap.close()
    return lines(found)


def test_off_without_a_file() -> None:
    assert Settings.from_environment({}) is None
    assert Settings.from_environment({"ORCH_LOG_FILE": ""}) is None


def test_defaults(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert (found.team, found.values, found.all_rows, found.vectors) == ("m0-worker", 10, False, None)
    assert found.names == frozenset({"result_output"})


def test_environment(tmp_path: Path) -> None:
    found = settings(
        tmp_path,
        ORCH_LOG_TEAM="blue",
        ORCH_LOG_VALUES="3",
        ORCH_LOG_CHECKPOINTS=" l_out-1, logits ,inp_embd,",
        ORCH_LOG_ROWS="all",
        ORCH_LOG_VECTORS="1",
    )
    assert found == Settings(
        path=tmp_path / "log.jsonl",
        team="blue",
        values=3,
        names=frozenset({"l_out-1", "result_output", "embd"}),
        all_rows=True,
        vectors=tmp_path / "log.jsonl.vectors",
    )
    assert settings(tmp_path, ORCH_LOG_CHECKPOINTS="all").names is None
    assert settings(tmp_path, ORCH_LOG_VECTORS="0").vectors is None
    assert settings(tmp_path, ORCH_LOG_VECTORS=str(tmp_path / "v")).vectors == tmp_path / "v"


@pytest.mark.parametrize(
    ("name", "value"),
    [("ORCH_LOG_VALUES", "ten"), ("ORCH_LOG_VALUES", "-1"), ("ORCH_LOG_ROWS", "some"), ("ORCH_LOG_FILE", "/")],
)
def test_what_cannot_be_meant(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name}|cannot write the recording {value}"):
        settings(tmp_path, **{name: value})


def test_logits_of_prompt_and_decode(miniature: Any, tmp_path: Path) -> None:
    model = load(miniature("llama"))
    found = record(settings(tmp_path), model, [5, 6, 7], 2)
    assert [tuple(line)[:7] for line in found] == [OLD_FIELDS] * 3
    assert [(line["checkpoint"], line["token_idx"], line["position"]) for line in found] == [
        ("result_output", 2, 2),
        ("result_output", 3, 3),
        ("result_output", 4, 4),
    ]
    # The input tokens can be put together again from the lines.
    assert found[0]["token_ids"] == [5, 6, 7]
    assert [len(line["token_ids"]) for line in found] == [3, 1, 1]
    assert found[1]["token_ids"] == [found[0]["top"][0][0]]
    assert {line["request_id"] for line in found} == {"job-1"}
    assert len({line["run_id"] for line in found}) == 1
    assert (found[0]["dtype"], found[0]["shape"], found[0]["layer"], found[0]["n"]) == ("f32", "[320]", -1, 320)


def test_figures_are_those_of_the_vector(miniature: Any, tmp_path: Path) -> None:
    found = settings(tmp_path, ORCH_LOG_VECTORS="1", ORCH_LOG_VALUES="4")
    model = load(miniature("qwen2"))
    line = record(found, model, [1, 2, 3, 4], 1)[-1]
    assert found.vectors is not None
    whole = found.vectors.read_bytes()
    raw = whole[line["vector"]["offset"] : line["vector"]["offset"] + line["vector"]["bytes"]]
    vector = np.frombuffer(raw, "<f4")
    assert line["n"] == vector.size == 320
    assert [np.float32(v) for v in line["values"]] == list(vector[:4])
    assert (np.float32(line["min"]), np.float32(line["max"])) == (vector.min(), vector.max())
    assert line["mean"] == pytest.approx(vector.astype(np.float64).mean(), rel=1e-12)
    assert line["l2"] == pytest.approx(float(np.linalg.norm(vector.astype(np.float64))), rel=1e-12)
    assert line["crc32"] == f"{zlib.crc32(raw):08x}"
    order = np.argsort(-vector, kind="stable")[:10]
    assert [i for i, _ in line["top"]] == order.tolist()
    assert [np.float32(v) for _, v in line["top"]] == list(vector[order])


def test_every_checkpoint_of_every_row(miniature: Any, tmp_path: Path) -> None:
    model = load(miniature("gpt-oss"))
    found = record(settings(tmp_path, ORCH_LOG_CHECKPOINTS="all", ORCH_LOG_ROWS="all"), model, [1, 2, 3], 0)
    keys = [(line["checkpoint"], line["occurrence"], line["position"]) for line in found]
    assert len(set(keys)) == len(keys)
    for name in ("embd", "Qcur-0", "kqv_out-1", "ffn_moe_topk-0", "l_out-1", "result_norm", "result_output"):
        assert {(name, 0, p) for p in range(3)} <= set(keys), name
    assert ("Qcur-1", 1, 0) in keys
    types = {line["checkpoint"]: line["dtype"] for line in found}
    assert (types["ffn_moe_topk-0"], types["embd"]) == ("i32", "f32")


def test_one_layer_of_a_checkpoint(miniature: Any, tmp_path: Path) -> None:
    model = load(miniature("llama"))
    found = record(settings(tmp_path, ORCH_LOG_CHECKPOINTS="l_out-1,embd"), model, [1, 2], 0)
    assert {line["checkpoint"] for line in found} == {"l_out-1", "embd"}


def test_what_is_no_number_is_a_word(tmp_path: Path) -> None:
    found = settings(tmp_path)
    tap = Recorder(found).job("j")
    tap.begin([1], 0)
    tap("result_output", -1, np.array([[np.nan, np.inf, -np.inf, 1e-30, -0.0, F32_MAX]], np.float32))
    tap.close()
    (line,) = lines(found)
    assert line["values"][:3] == ["nan", "inf", "-inf"]
    assert [np.float32(v) for v in line["values"][3:]] == [np.float32(1e-30), 0.0, np.float32(F32_MAX)]
    assert (line["min"], line["max"], line["mean"], line["l2"]) == ("nan", "nan", "nan", "nan")
    assert "NaN" not in found.path.read_text()


def test_the_recorder_copies_what_it_sees(tmp_path: Path) -> None:
    found = settings(tmp_path)
    tap = Recorder(found).job("j")
    buffer = np.array([[1, 2, 3]], np.float32)
    tap.begin([1], 0)
    tap("result_output", -1, buffer)
    buffer[:] = 9
    tap.close()
    assert lines(found)[0]["values"] == [1, 2, 3]


def test_nothing_is_lost_when_writing_is_interrupted(tmp_path: Path) -> None:
    found = settings(tmp_path)
    tap = Recorder(found).job("j")
    for position in range(5):
        tap.begin([position], position)
        tap("result_output", -1, np.full((1, 4), position, np.float32))
    steps = tap.write()
    next(steps)
    next(steps)
    assert lines(found) == []
    steps.close()
    tap.close()
    tap.close()
    assert [line["token_idx"] for line in lines(found)] == [0, 1, 2, 3, 4]


def step(tap: JobRecorder, position: int, *values: float) -> None:
    tap.begin([position], position)
    tap("result_output", -1, np.array([values], np.float32))


def test_memory_is_bounded_while_a_job_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "HELD_BYTES", 1000)
    found = settings(tmp_path, ORCH_LOG_VECTORS="1")
    assert found.vectors is not None
    recorder = Recorder(found)
    tap = recorder.job("j")
    for position in range(100):
        step(tap, position, *[position] * 50)
    assert len(lines(found)) == 0
    assert found.vectors.stat().st_size == 96 * 200  # four copies of 200 bytes, each at a multiple of 64, fit
    tap.close()
    found_lines = lines(found)
    assert [line["token_idx"] for line in found_lines] == list(range(100))
    assert [line["token_ids"] for line in found_lines] == [[i] for i in range(100)]
    assert [line["max"] for line in found_lines] == list(range(100))
    assert [line["vector"]["offset"] for line in found_lines] == list(range(0, 100 * 200, 200))


def test_lines_do_not_pile_up_in_a_long_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "HELD_BYTES", 1000)
    monkeypatch.setattr(checkpoints, "_HELD_LINES", 10)
    found = settings(tmp_path)
    tap = Recorder(found).job("j")
    for position in range(100):
        step(tap, position, *[position] * 50)
    assert len(lines(found)) == 90
    tap.close()
    assert [line["position"] for line in lines(found)] == list(range(100))


def test_one_job_runs_while_another_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "HELD_BYTES", 256)
    found = settings(tmp_path, ORCH_LOG_VECTORS="1")
    assert found.vectors is not None
    recorder = Recorder(found)
    first, second = recorder.job("first"), recorder.job("second")
    for position in range(4):
        step(first, position, 10 + position)
    writing = first.write()
    next(writing)
    for position in range(6):  # more than fit: the rest of the first job's copies must leave for them
        step(second, position, 20 + position)
    for _ in writing:
        pass
    second.close()
    whole = np.frombuffer(found.vectors.read_bytes(), "<f4")
    for name, base in (("first", 10), ("second", 20)):
        own = [line for line in lines(found) if line["request_id"] == name]
        assert [line["values"] for line in own] == [[base + i] for i in range(len(own))]
        assert [whole[line["vector"]["offset"] // 4] for line in own] == [base + i for i in range(len(own))]
    assert len(lines(found)) == 10


def test_a_checkpoint_larger_than_the_bound_is_recorded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "HELD_BYTES", 1000)
    found = settings(tmp_path, ORCH_LOG_ROWS="all")
    tap = Recorder(found).job("j")
    step(tap, 0, 1, 2)
    prompt = np.arange(600, dtype=np.float32).reshape(6, 100)
    tap.begin(range(6), 1)
    tap("result_output", -1, prompt)
    prompt[:] = 0  # the model goes on with its array
    step(tap, 7, 3, 4)
    tap.close()
    found_lines = lines(found)
    assert [line["position"] for line in found_lines] == list(range(8))
    assert [line["max"] for line in found_lines] == [2, 99, 199, 299, 399, 499, 599, 4]


@pytest.mark.parametrize("full", [False, True])
def test_a_file_that_cannot_be_written_is_no_error_of_the_running_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    monkeypatch.setattr(checkpoints, "HELD_BYTES", 64 if full else 1000)
    found = settings(tmp_path, ORCH_LOG_VECTORS="1")
    assert found.vectors is not None
    recorder = Recorder(found)
    found.vectors.unlink()
    found.vectors.mkdir()
    broken = recorder.job("broken")
    for position in range(4):
        step(broken, position, position)
    with pytest.raises(IsADirectoryError):
        broken.close()
    found.vectors.rmdir()
    sound = recorder.job("sound")
    step(sound, 0, 5)
    sound.close()
    assert [(line["request_id"], line["values"]) for line in lines(found)] == [("sound", [5])]


@pytest.mark.parametrize("size", [1, 9, 10, 511, 5119, 5120, 5121, 8192, 20000])
def test_figures_of_long_vectors_are_those_of_plain_numpy(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(size)
    rows = rng.standard_normal((2, size)).astype(np.float32)
    rows[1] = np.round(rows[1], 1)  # many equals: the lower id comes first
    found = settings(tmp_path, ORCH_LOG_ROWS="all")
    tap = Recorder(found).job("j")
    tap.begin([1, 2], 0)
    tap("result_output", -1, rows)
    tap.close()
    for row, line in zip(rows, lines(found), strict=True):
        wide = row.astype(np.float64)
        assert line["mean"] == pytest.approx(wide.mean(), rel=1e-12, abs=1e-15)
        assert line["l2"] == pytest.approx(float(np.linalg.norm(wide)), rel=1e-12)
        assert line["crc32"] == f"{zlib.crc32(row.tobytes()):08x}"
        assert [i for i, _ in line["top"]] == np.argsort(-row, kind="stable")[:10].tolist()


def test_copies_leave_in_the_order_they_came_and_unchanged() -> None:
    class Reader:
        def __init__(self) -> None:
            self.seen: list[bytes] = []

        def take(self, origin: Any, values: Any) -> None:  # noqa: ARG002 - the interface's signature
            self.seen.append(values.tobytes())

    rng = np.random.default_rng(0)
    for size in (64, 1000, 4096):
        copies, reader, sent = Copies(size), Reader(), []
        for _ in range(2000):
            if rng.random() < 0.3 and len(reader.seen) < len(sent):
                copies.pop()
                continue
            array = rng.random((1, int(rng.integers(1, 300))), np.float32)
            if rng.random() < 0.1:
                array = array.astype(np.int32)
            sent.append(array.tobytes())
            copies.keep(reader, (0.0, 0, "", 0, []), array)
            array[:] = 0
        while len(reader.seen) < len(sent):
            copies.pop()
        assert reader.seen == sent


def test_jobs_and_runs_share_a_file(tmp_path: Path) -> None:
    found = settings(tmp_path, ORCH_LOG_VECTORS="1")
    for recorder in (Recorder(found), Recorder(found)):
        for name in ("a", "b"):
            tap = recorder.job(name)
            tap.begin([1], 0)
            tap("result_output", -1, np.ones((1, 2), np.float32))
            tap.close()
    every = lines(found)
    assert [(line["request_id"], line["vector"]["offset"]) for line in every] == [
        ("a", 0),
        ("b", 8),
        ("a", 16),
        ("b", 24),
    ]
    assert len({line["run_id"] for line in every}) == 2
