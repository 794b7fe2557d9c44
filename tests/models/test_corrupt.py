from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from m0_models import container
from m0_models.corrupt import CORRUPT, read_back
from m0_models.corrupt_keys import KEYS
from m0_models.probes import metronome
from m0_parity.llamacpp import Model, ReferenceUnavailableError, library

if TYPE_CHECKING:
    from pathlib import Path


STRICTER = {
    *("no-name", "version-2"),  # M0-W-1211 requires the name and M0-W-1200 version 3
    *("bos-outside", "eos-outside", "pad-outside"),  # llama.cpp warns and takes another id
    *("bos-unknown", "no-scores", "scores-nan"),  # it aborts when a string is tokenized, or takes zeros
    *("context-zero", "epsilon-nan", "rope-base-zero", "rotated-odd", "rotated-wide"),  # it computes nonsense
    *("key-no-utf8", "model-unknown", "no-query-bias"),  # it does not mind, or supports more
}
"""What the worker refuses and llama.cpp loads."""

WRITTEN_ANEW = {*(name for name, *_ in KEYS), "duplicate-token", "byte-spelt-otherwise"}


def loads_in_a_child(path: Path) -> bool:
    """llama.cpp may abort the process on crafted files, so it reads them in a fork."""
    library()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            Model(path)
        except ReferenceUnavailableError:
            os._exit(3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("name", CORRUPT)
def test_llamacpp_agrees_on_what_is_broken(tmp_path: Path, name: str) -> None:
    corrupt = CORRUPT[name]
    loads = loads_in_a_child(corrupt.write(tmp_path / "model.gguf"))
    assert loads == (corrupt.good or name in STRICTER)


@pytest.mark.parametrize("name", [n for n, c in CORRUPT.items() if not c.good])
def test_a_fault_is_one_small_change(tmp_path: Path, name: str) -> None:
    base = metronome(tmp_path / "base.gguf").path.read_bytes()
    broken = CORRUPT[name].write(tmp_path / "model.gguf").read_bytes()
    assert broken != base
    assert CORRUPT[name].words
    if len(broken) == len(base) and name not in WRITTEN_ANEW:
        assert 1 <= sum(a != b for a, b in zip(base, broken, strict=True)) <= 40


def test_a_file_read_back_and_written_again_is_the_same(tmp_path: Path) -> None:
    base = metronome(tmp_path / "base.gguf").path
    metadata, tensors = read_back(base)
    again = container.write(tmp_path / "again.gguf", "qwen2", metadata, tensors, complete=False)
    assert again.read_bytes() == base.read_bytes()
