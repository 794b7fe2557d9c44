"""What `m0-parity haiku` does: one haiku with everything that can be checked of it, or many to count the words."""

from __future__ import annotations

import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from m0_models import altered
from m0_models.fetch import FetchError, fetch
from m0_models.real import register
from m0_models.scan import Scan

from m0_parity import llamacpp
from m0_parity.compare import IncomparableError
from m0_parity.feed import look
from m0_parity.haiku.client import Worker
from m0_parity.haiku.greedy import follow
from m0_parity.haiku.words import draw, has_word, lines, prompt

if TYPE_CHECKING:
    import argparse

    from m0_parity.haiku.client import Answer

DEFAULT: Final = "smollm2-135m"
SEED: Final = 42
TEMPERATURE: Final = 0.7
TOKENS: Final = 50
"""M0-W-1800's own: seed, temperature, most tokens."""


def _say(text: str = "", end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


@dataclass(slots=True)
class Checks:
    """What was checked, each with its outcome; some are reported and decide nothing."""

    failed: int = 0

    def judge(self, passed: bool, what: str) -> None:
        """A check that decides."""
        self.failed += not passed
        _say(f"  {'ok  ' if passed else 'FAIL'}  {what}")

    def report(self, what: str) -> None:
        """A fact."""
        _say(f"  --    {what}")


def run(options: argparse.Namespace) -> int:
    """One haiku, or ``--words`` of them; 0 if every check that decides passed.

    Raises:
        IncomparableError: no model, or a worker that does not answer.
        GgufError: no model that the worker can run.
        ReferenceUnavailableError: no llama.cpp.
    """
    path = _model(options.model)
    facts = look(path)
    llamacpp.library()
    _say(f"{path.name}: {facts.sentence()}")
    chat = "<|im_start|>" in str(Scan(path).metadata.get("tokenizer.chat_template", ""))
    source: random.Random = random.Random(options.seed) if options.seed is not None else random.SystemRandom()  # noqa: S311 - words, no secrets
    checks = Checks()
    with Worker(path, options.device) as worker:
        resident = worker.health().get("resident")
        if options.words > 1:
            return _many(worker, source, options, chat=chat)
        word, nonce = (options.word, draw(source)[1]) if options.word else draw(source)
        asked = prompt(word, nonce, chat=chat)
        _say(f"asking for a haiku with the word {word!r}, temperature {TEMPERATURE}, seed {SEED}\n")
        answer = worker.ask(
            asked, temperature=TEMPERATURE, seed=SEED, max_tokens=TOKENS, show=lambda t: _say(t, end="")
        )
        _say(f"\n\n{_speed(answer)}\n")
        _of_the_text(checks, answer, word, nonce)
        again = worker.ask(asked, temperature=TEMPERATURE, seed=SEED, max_tokens=TOKENS)
        checks.judge(again.pieces == answer.pieces, "the same seed gives the same tokens again")
        other = worker.ask(asked, temperature=TEMPERATURE, seed=SEED + 1, max_tokens=TOKENS)
        checks.report(f"another seed gives {'another answer' if other.pieces != answer.pieces else 'the same answer'}")
        greedy = worker.ask(asked, temperature=0.0, seed=SEED, max_tokens=TOKENS)
        checks.report("resident in the memory of an accelerator" if resident else "on a CPU: not resident (M0-W-1012)")
    with tempfile.TemporaryDirectory(prefix="m0-haiku-") as folder:
        _against_llamacpp(checks, path, asked, greedy, Path(folder))
        _another_tensor(checks, path, asked, greedy, Path(folder), options.device)
    _say(f"\n{'every check passed' if not checks.failed else f'{checks.failed} checks failed'}")
    return int(bool(checks.failed))


def _model(given: str | None) -> Path:
    name = given or DEFAULT
    if name not in register():
        return Path(name)
    try:
        return fetch(name, tell=_say, bar=sys.stderr.isatty())
    except FetchError as error:
        raise IncomparableError(str(error)) from error


def _speed(answer: Answer) -> str:
    rate = f", then {answer.rate:.1f} tokens/s" if answer.rate else ""
    return f"{len(answer.pieces)} tokens, the first after {answer.first_s:.2f} s{rate}; ended by {answer.stop}"


def _of_the_text(checks: Checks, answer: Answer, word: str, nonce: str) -> None:
    found = has_word(answer.text, word)
    checks.report(f"the word {word!r} {'stands in it as a whole word' if found else 'is not in it'}")
    checks.judge(nonce not in answer.text, f"the request's nonce {nonce} is not echoed")
    checks.report(f"{lines(answer.text)} lines")


def _against_llamacpp(checks: Checks, path: Path, asked: str, greedy: Answer, folder: Path) -> None:
    steps = follow(path, asked, greedy.text, folder)
    sure = [step for step in steps if step.sure]
    wrong = [step for step in sure if step.ours != step.theirs]
    flips = sum(step.ours != step.theirs for step in steps) - len(wrong)
    checks.judge(
        bool(sure) and not wrong,
        f"greedy: llama.cpp's token at {len(sure) - len(wrong)} of the {len(sure)} where its lead is above its own "
        f"rounding; {flips} of the other {len(steps) - len(sure)} differ",
    )
    exact = sum(step.ours == step.exact for step in steps)
    checks.report(f"greedy: the choice of llama.cpp on the file's float32 twin at {exact} of {len(steps)}")


def _another_tensor(checks: Checks, path: Path, asked: str, greedy: Answer, folder: Path, device: str | None) -> None:
    """Another file, another answer: the weights of the file are what speaks."""
    changed = folder / "changed.gguf"
    name = altered.zeroed(path, changed)
    with Worker(changed, device) as worker:
        answer = worker.ask(asked, temperature=0.0, seed=SEED, max_tokens=TOKENS)
    checks.judge(answer.pieces != greedy.pieces, f"with {name} zeroed the answer is another")


def _many(worker: Worker, source: random.Random, options: argparse.Namespace, *, chat: bool) -> int:
    """Ask for many words, each with a seed of its own, and count the haikus that hold theirs."""
    found = 0
    for number in range(options.words):
        word, nonce = draw(source)
        answer = worker.ask(
            prompt(word, nonce, chat=chat), temperature=TEMPERATURE, seed=SEED + number, max_tokens=TOKENS
        )
        found += has_word(answer.text, word)
        verse = " / ".join(line.strip() for line in answer.text.splitlines() if line.strip())
        _say(f"{'yes' if has_word(answer.text, word) else 'NO ':3} {word:10} {verse}")
    _say(f"\n{found} of {options.words} haikus hold the word that was asked for")
    if options.at_least is None:
        return 0
    return int(found < options.at_least)
