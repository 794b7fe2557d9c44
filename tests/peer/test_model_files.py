from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from m0_models import miniatures
from m0_models.corrupt import CORRUPT
from m0_peer.engine import Model
from m0_peer.errors import Code, LoadError
from m0_peer.gguf_header import read_header

if TYPE_CHECKING:
    from pathlib import Path


# What llama.cpp serves although it is odd, and no clause of M0 forbids: the bundled loader is stricter here.
TAKEN = {
    "model-unknown", "bos-unknown", "no-scores", "rotated-odd", "rotated-wide", "rope-base-zero", "no-query-bias",
}  # fmt: skip
LOAD = """
import pathlib, sys
from m0_peer.engine import Model
from m0_peer.errors import LoadError
try:
    Model(pathlib.Path(sys.argv[1]), 1, lambda _share: True).close()
except LoadError as error:
    sys.exit(f"{error.code.value}: {error}")
"""


def load(path: Path) -> Model:
    return Model(path, 1, lambda _share: True)


@pytest.mark.parametrize("name", CORRUPT)
def test_every_broken_file_is_refused_in_words_and_every_odd_one_served(name: str, tmp_path: Path) -> None:
    """In a process of its own, for what llama.cpp finds impossible ends the process."""
    file = CORRUPT[name]
    words = [sys.executable, "-P", "-c", LOAD, str(file.write(tmp_path / "model.gguf"))]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if file.good or name in TAKEN:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode == 1, done.stderr
    assert re.match("MODEL_LOAD_FAILED: .|m0-peer: INTERNAL: llama.cpp gave up: .", done.stderr), done.stderr
    assert len(done.stderr) < 1000
    assert "Traceback" not in done.stderr


# The files of M0's own clauses: the message names the fault.
NAMED = [
    "version-2", "version-4", "bad-magic", "10000-tensors", "truncated", "no-architecture", "no-name",
    "no-context-length", "no-embedding-length", "no-block-count", "unknown-architecture", "unknown-pre-tokenizer",
    "missing-tensor", "huge-string", "huge-array", "zero-dimension", "overflowing-dimensions", "offset-outside",
    "duplicate-tensor", "epsilon-nan", "eos-outside", "types-few",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_the_message_names_the_fault(name: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        load(CORRUPT[name].write(tmp_path / "model.gguf"))
    assert caught.value.code is Code.MODEL_LOAD_FAILED
    assert any(word in str(caught.value).lower() for word in CORRUPT[name].words), caught.value


@pytest.mark.parametrize(("quant", "kind"), [("Q4_0", "Q4_0"), ("Q4_K_M", "Q4_K_M"), ("MXFP4", "MXFP4")])
def test_quant_kind_is_the_file_s_recipe(quant: str, kind: str, tmp_path: Path) -> None:
    assert read_header(miniatures.write(tmp_path / "m.gguf", "llama", quant)).quant_kind == kind


def test_too_big_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m0_peer.engine.memory_available", lambda: 1000)
    with pytest.raises(LoadError) as caught:
        load(miniatures.write(tmp_path / "m.gguf", "llama"))
    assert caught.value.code is Code.INSUFFICIENT_VRAM
    assert caught.value.facts["bytes_available"] == 1000


def test_loading_can_be_given_up(tmp_path: Path) -> None:
    with pytest.raises(LoadError):
        Model(miniatures.write(tmp_path / "m.gguf", "llama"), 1, lambda share: share < 0.1)
