"""The haiku command: its words, its look along llama.cpp, and models that must fail its checks."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Self

import pytest
from m0_models import probes
from m0_parity.cli import main
from m0_parity.haiku import command
from m0_parity.haiku.client import Answer
from m0_parity.haiku.greedy import Step, follow
from m0_parity.haiku.words import WORDS, draw, has_word, lines, prompt

if TYPE_CHECKING:
    from pathlib import Path


def test_words_are_drawn_and_asked_for() -> None:
    word, nonce = draw(random.Random(1))
    assert (word, nonce) == draw(random.Random(1))
    assert len({draw(random.Random(seed)) for seed in range(50)}) == 50
    for chat in (True, False):
        asked = prompt(word, nonce, chat=chat)
        assert f'the words "the {word}".' in asked
        assert nonce in asked
        assert ("<|im_start|>assistant" in asked) == chat
    assert len(set(WORDS)) == len(WORDS) > 100


@pytest.mark.parametrize(
    ("text", "found"),
    [("The river sleeps.", True), ("RIVER!", True), ("riverside", False), ("a driver", False), ("", False)],
)
def test_a_word_counts_only_whole(text: str, found: bool) -> None:
    assert has_word(text, "river") == found


def test_lines_that_hold_something() -> None:
    assert lines("one\n\n two \nthree\n") == 3


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = probes.catalogue()["script"].write(tmp_path_factory.mktemp("haiku") / "script.gguf").path
    return path


CYCLE = " baba mibe zubi mebo zobu"


def test_llamacpp_follows_an_answer_and_agrees(script: Path, tmp_path: Path) -> None:
    steps = follow(script, "*", CYCLE, tmp_path)
    assert len(steps) == 5
    assert all(step.ours == step.theirs == step.exact for step in steps)
    assert all(step.sure for step in steps)


def test_llamacpp_sees_a_token_that_it_would_not_have_chosen(script: Path, tmp_path: Path) -> None:
    steps = follow(script, "*", CYCLE.replace("zubi", "mebo"), tmp_path)
    wrong = [number for number, step in enumerate(steps) if step.ours != step.theirs]
    assert wrong[0] == 2
    assert steps[2].sure


def test_a_near_tie_is_not_held_against_the_worker() -> None:
    assert not Step(1, 2, lead=0.05, rounding=0.01, exact=2).sure
    assert Step(1, 2, lead=0.07, rounding=0.01, exact=2).sure


def test_a_model_that_does_not_compute_its_answer_fails(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The probe's layers are zeros: zeroing one more of its tensors changes nothing, and the check must say so."""
    assert main(["haiku", "--model", str(script), "--word", "river"]) == 1
    out = capsys.readouterr().out
    assert "asking for a haiku with the word 'river'" in out
    assert "the word 'river' is not in it" in out
    assert "ok    the same seed gives the same tokens again" in out
    assert "ok    greedy: llama.cpp's token at 50 of the 50" in out
    assert "FAIL  with blk.0.ffn_down.weight zeroed the answer is another" in out
    assert out.endswith("1 checks failed\n")


class Poet:
    """A worker that says what a test wants; it holds the word in two of three answers."""

    said: list[str]

    def __init__(self, *_: object) -> None:
        self.said = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def health(self) -> dict[str, object]:
        return {"resident": False}

    def ask(self, asked: str, **options: object) -> Answer:
        self.said.append(f"{asked} {options['seed']}")
        word = asked.split('the words "the ')[1].split('"', maxsplit=1)[0]
        return Answer((word if len(self.said) % 3 else "nothing",), 0.1, 0.0, "EOS")


@pytest.mark.parametrize(("least", "code"), [(4, 0), (5, 1)])
def test_many_words_are_counted(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], least: int, code: int
) -> None:
    monkeypatch.setattr(command, "Worker", Poet)
    assert main(["haiku", "--model", str(script), "--words", "6", "--at-least", str(least)]) == code
    assert "4 of 6 haikus hold the word that was asked for" in capsys.readouterr().out
    assert main(["haiku", "--model", str(script), "--words", "6"]) == 0


def test_an_echoed_nonce_fails(capsys: pytest.CaptureFixture[str]) -> None:
    checks = command.Checks()
    command._of_the_text(checks, Answer(("Request 00ff00ff: river",), 0.1, 0.0, "EOS"), "river", "00ff00ff")
    assert checks.failed == 1
    assert "FAIL  the request's nonce 00ff00ff is not echoed" in capsys.readouterr().out


def test_what_is_no_model_is_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["haiku", "--model", str(tmp_path / "none.gguf")]) == 2
    assert "cannot read the model" in capsys.readouterr().err
