"""A short run of the mutants, and proof that what escapes is found; `nox -s fuzz` runs the long one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from gguf_parts import Parts, mutant
from m0_worker.tokenizers.vocabulary import Vocabulary
from run import Bench, Hang
from served import bases, outcome

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers of a broken model may overflow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return bases(tmp_path_factory.mktemp("bases"))


def test_bases_serve_and_come_back_byte_for_byte(files: list[Path], tmp_path: Path) -> None:
    for path in files:
        assert outcome(path) == "served"
        again = tmp_path / "again.gguf"
        again.write_bytes(Parts.of(path).join())
        assert again.read_bytes() == path.read_bytes()


def test_mutants_are_served_or_refused(files: list[Path], tmp_path: Path) -> None:
    parts = [Parts.of(path) for path in files]
    bench = Bench(outcome, tmp_path, tmp_path / "kept")
    for number in range(800):
        bench.attempt(mutant(parts, random.Random(f"test:{number}")), f"mutant-{number}")
    assert bench.failures == []
    assert {"served", "tokenizer", "truncated", "missing-tensor", "unsupported-type"} <= set(bench.outcomes)


def test_what_escapes_is_found_and_kept(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes spelt otherwise were accepted once, and failed when such a token was generated."""
    monkeypatch.setattr(Vocabulary, "_refuse_bytes_spelt_otherwise", lambda _: None)
    parts = Parts.of(files[0])
    types = next(key for key in parts.keys if key.name == b"tokenizer.ggml.token_type")
    types.value[300] = 6
    bench = Bench(outcome, tmp_path, tmp_path / "kept")
    bench.attempt(parts.join(), "mutant")
    assert bench.report(1.0) == 1
    assert "is not spelt <0xXX>" in capsys.readouterr().out
    assert (tmp_path / "kept" / "mutant.gguf").read_bytes() == parts.join()


def test_a_hang_is_a_failure(tmp_path: Path) -> None:
    def hangs(_: Path) -> str:
        raise Hang

    bench = Bench(hangs, tmp_path, tmp_path / "kept")
    bench.attempt(b"", "mutant")
    assert len(bench.failures) == 1


def test_nothing_tried_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Bench(outcome, tmp_path, tmp_path).report(0.0) == 1
    assert "0 files" in capsys.readouterr().out
