"""The echo probes say their prompt again on llama.cpp as it is used and on the bundled engine, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from m0_models.probes.echo import LAG, NAMES, echo, vectors
from m0_parity.llamacpp import Context, Model
from m0_parity.llamacpp.engine import Settings
from m0_parity.tokenizers import echo as made
from m0_worker.devices.cpu import CpuDevice
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams
from m0_worker.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AS_USED = Settings(flash_attention=True, kv="f16", repack=True, threads=2)
MARGIN = 80.0
LEAST = 25  # vectors of each backend (M0-W-1363, M0-W-1821)


@pytest.mark.parametrize("quant", ["Q4_0", "F16"])
@pytest.mark.parametrize("name", NAMES)
def test_llamacpp_says_every_prompt_again(tmp_path: Path, name: str, quant: str) -> None:
    probe = echo(tmp_path / "echo.gguf", name, quant=quant)
    assert len(probe.facts["vectors"]) >= LEAST
    with Model(probe.path) as model, Context(model, 256, AS_USED) as context:
        for vector in probe.facts["vectors"]:
            context.reset()
            ids = model.tokenize(vector["text"], add_special=True)
            assert len(ids) == LAG + 1
            tokens, logits = context.greedy(ids, len(vector["pieces"]) + vector["ends"])
            pieces = [model.piece(token).hex() for token in tokens]
            assert pieces[: len(vector["pieces"])] == vector["pieces"]
            assert not vector["ends"] or model.is_end(tokens[-1])
            top = np.sort(logits, axis=1)
            assert float((top[:, -1] - top[:, -2]).min()) >= MARGIN


@pytest.mark.parametrize("name", NAMES)
def test_the_bundled_engine_says_every_prompt_again(tmp_path: Path, name: str) -> None:
    probe = echo(tmp_path / "echo.gguf", name)
    file = GgufFile.open(probe.path)
    engine, tokenizer = load_model(file, CpuDevice()), load_tokenizer(file, probe.path.parent)
    for vector in probe.facts["vectors"]:
        ids = list(tokenizer.encode(vector["text"]))
        job = engine.open(len(ids) + len(vector["pieces"]), SamplingParams(temperature=0.0), seed=0)
        _ended(job.prefill(ids))
        said = []
        for step in range(len(vector["pieces"])):
            if step:
                job.launch()
            said.append(_ended(job.collect()))
        job.close()
        assert [tokenizer.token_bytes(token).hex() for token in said] == vector["pieces"]


def _ended(steps: Iterator[None]) -> int:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return int(end.value or 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_vectors_are_what_two_libraries_say(name: str) -> None:
    assert made.build(name)["vectors"] == vectors(name)


def test_another_cut_is_heard(tmp_path: Path) -> None:
    """The probe for one pre-tokenizer, read with another's name, says other pieces."""
    probe = echo(tmp_path / "echo.gguf", "qwen2")
    raw = probe.path.read_bytes()
    key = b"tokenizer.ggml.pre"
    at = raw.index(key) + len(key) + 4 + 8
    assert raw[at : at + 5] == b"qwen2"
    (tmp_path / "other.gguf").write_bytes(raw[:at] + b"gpt-2" + raw[at + 5 :])
    wrong = 0
    with Model(tmp_path / "other.gguf") as model, Context(model, 256) as context:
        for vector in probe.facts["vectors"]:
            context.reset()
            tokens, _ = context.greedy(model.tokenize(vector["text"], add_special=True), len(vector["pieces"]))
            wrong += [model.piece(token).hex() for token in tokens] != vector["pieces"]
    assert wrong >= 3


def test_an_unknown_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no echo probe for 'bert': one of qwen2"):
        echo(tmp_path / "echo.gguf", "bert")
