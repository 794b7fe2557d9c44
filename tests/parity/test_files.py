"""Recordings on disk: both writers, the strict reader, and what it refuses."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from m0_models import miniatures
from m0_parity import files
from m0_parity.capture import Work, record_worker, workload
from m0_parity.compare import IncomparableError, compare
from m0_worker.checkpoints import Recorder, Settings
from m0_worker.devices import open_device
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from pathlib import Path

    from m0_parity.recording import Recording


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniatures.write(tmp_path_factory.mktemp("model") / "gpt-oss.gguf", "gpt-oss", "F32")


@pytest.fixture(scope="module")
def recorded(model: Path) -> Recording:
    return record_worker(model, workload(320, length=20, decode=2))


def test_written_and_read_is_the_same(recorded: Recording, tmp_path: Path) -> None:
    again = files.read(files.write(recorded, tmp_path / "a.jsonl", vectors=True))
    assert [r.tokens for r in again] == [r.tokens for r in recorded]
    assert [r.prompt for r in again] == [r.prompt for r in recorded]
    assert all(r.rows.keys() == recorded.requests[r.id].rows.keys() for r in again)
    assert compare(recorded, again).worst().nmse == 0


def test_leading_values_are_enough_for_a_look(recorded: Recording, tmp_path: Path) -> None:
    again = files.read(files.write(recorded, tmp_path / "a.jsonl", values=4))
    result = compare(recorded, again)
    assert result.worst().nmse == 0
    assert not result.logits
    assert again.requests["first"].rows[0, "l_out"].partial


def test_the_worker_s_own_recorder_is_read(model: Path, tmp_path: Path) -> None:
    """ORCH_LOG_FILE of a worker and the recording of this toolkit are the same numbers."""
    log = tmp_path / "orch.jsonl"
    wanted = {"ORCH_LOG_CHECKPOINTS": "all", "ORCH_LOG_ROWS": "all", "ORCH_LOG_VECTORS": "1"}
    settings = Settings.from_environment({"ORCH_LOG_FILE": str(log), **wanted})
    assert settings is not None
    recorder = Recorder(settings, model="gpt-oss")
    prompt = workload(320, length=20, decode=0)[0].prompt
    gguf = GgufFile.open(model)
    engine = load_model(gguf, open_device("cpu"), n_ctx=512, kv_dtype="f32")
    tap = recorder.job("first")
    with closing(engine.open(32, SamplingParams(temperature=0.0), seed=0, tap=tap)) as job:
        for _ in job.prefill(prompt):
            pass
        spoken = []
        for _ in range(3):
            step = job.collect()
            try:
                while True:
                    next(step)
            except StopIteration as end:
                spoken.append(end.value)
            job.launch()
    tap.close()
    gguf.close()
    theirs = files.read(log)
    assert theirs.requests["first"].tokens == [*prompt, *spoken[:2]]
    ours = record_worker(model, [Work("first", prompt, tuple(spoken[:2]))])
    result = compare(ours, theirs)
    assert result.worst().nmse == 0
    assert {(0, "Qpre"), (1, "Qcur"), (1, "ffn_moe_topk"), (-1, "result_output")} <= {c.place for c in result.cells}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_words_stand_for_what_json_cannot_say(recorded: Recording, tmp_path: Path) -> None:
    path = files.write(recorded, tmp_path / "a.jsonl", values=4)
    changed = lines(path)
    changed[0]["values"] = ["nan", "inf", "-inf", 1.5]
    path.write_text("".join(json.dumps(line) + "\n" for line in changed))
    first = files.read(path).requests["first"].rows[-1, "embd"].values[0]
    assert np.isnan(first[0])
    assert first[1:].tolist() == [np.inf, -np.inf, 1.5]


def test_a_line_of_the_old_schema_is_read(tmp_path: Path) -> None:
    old = {"ts": "2025-10-04T12:00:00Z", "team": "llama.cpp", "checkpoint": "logits", "token_idx": 3, "dtype": "f32",
           "shape": "[151936]", "values": [1.0, 2.0]}  # fmt: skip
    path = tmp_path / "old.jsonl"
    path.write_text(json.dumps(old) + "\n")
    rows = files.read(path).requests[""].logits()
    assert rows.positions.tolist() == [3]
    assert rows.values.tolist() == [[1.0, 2.0]]


def cut_line(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def cut_vectors(path: Path) -> None:
    side = path.with_name(path.name + ".vectors")
    side.write_bytes(side.read_bytes()[:-8])


def no_vectors(path: Path) -> None:
    path.with_name(path.name + ".vectors").unlink()


def flip_bit(path: Path) -> None:
    side = path.with_name(path.name + ".vectors")
    raw = bytearray(side.read_bytes())
    raw[1000] ^= 1
    side.write_bytes(raw)


def newer_schema(path: Path) -> None:
    path.write_text(path.read_text().replace('"schema":1', '"schema":2', 1))


def twice(path: Path) -> None:
    text = path.read_text()
    path.write_text(text + text.splitlines(keepends=True)[-1])


def cut_between_lines(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:30]))


def no_bytes(path: Path) -> None:
    path.write_text(path.read_text().replace('"bytes":', '"bites":', 1))


def words_for_ids(path: Path) -> None:
    path.write_text(path.read_text().replace('"token_ids":[', '"token_ids":["hello",', 1))


def no_json(path: Path) -> None:
    path.write_text("hello\n")


def no_checkpoint(path: Path) -> None:
    path.write_text('{"event": "ready"}\n')


def emptied(path: Path) -> None:
    path.write_text("")


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (cut_line, "truncated"),
        (cut_vectors, "truncated"),
        (no_vectors, "No such file"),
        (flip_bit, "CRC"),
        (newer_schema, "schema 2"),
        (twice, "not whole"),
        (cut_between_lines, "has 30 lines where"),
        (no_bytes, "no field 'bytes'"),
        (words_for_ids, "a line of embd cannot be read"),
        (no_json, "not JSON"),
        (no_checkpoint, "no checkpoint"),
        (emptied, "no line"),
    ],
)
def test_a_damaged_recording_is_refused(recorded: Recording, tmp_path: Path, damage: object, word: str) -> None:
    path = files.write(recorded, tmp_path / "a.jsonl", vectors=True)
    damage(path)  # type: ignore[operator]  # parametrized
    with pytest.raises(IncomparableError, match=word):
        files.read(path)


def test_a_place_recorded_twice_is_refused(recorded: Recording, tmp_path: Path) -> None:
    path = files.write(recorded, tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("lines", None)  # a worker does not count them
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, lines[-1]]))
    with pytest.raises(IncomparableError, match="recorded twice at one position"):
        files.read(path)
