"""`m0-parity http URL_A URL_B --prompts FILE`: arguments, the table, and the exit code.

0 every prompt equal · 1 a prompt differs · 2 usage · 3 a prompt, or all, could not be compared and none differs.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from m0_parity.http.agreement import Oracle, parting
from m0_parity.http.client import Generated, NotServedError, Worker

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EQUAL, DIFFERS, USAGE, NOT_COMPARED = 0, 1, 2, 3
_WIDTH = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("url_a", metavar="URL_A", help="a running worker, such as http://127.0.0.1:8080")
    parser.add_argument("url_b", metavar="URL_B", help="another one that serves the same model")
    parser.add_argument(
        "--prompts", type=Path, required=True, metavar="FILE", help="one prompt a line; in a .jsonl, a JSON string each"
    )
    parser.add_argument("--max-tokens", type=int, default=64, metavar="N", help="of each prompt (default: %(default)s)")
    parser.add_argument("--model", type=Path, metavar="FILE", help="the GGUF file: llama.cpp says how close it was")
    parser.add_argument(
        "--timeout", type=float, default=120.0, metavar="S", help="of one answer (default: %(default)s)"
    )


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file.

    Raises:
        ValueError: a line is no prompt, or there is none.
        OSError: it cannot be read.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    prompts = [line for line in lines if line.strip()]
    if path.suffix == ".jsonl":
        prompts = [json.loads(line) for line in prompts]
    if not prompts or not all(isinstance(prompt, str) and prompt for prompt in prompts):
        raise ValueError(f"{path}: no prompts in it; give a string a line, or a JSON string a line in a .jsonl")
    return prompts


def run(options: argparse.Namespace) -> int:
    """Compare; the exit code is the module's."""
    try:
        prompts = read_prompts(options.prompts)
    except ValueError as error:
        return _say(f"cannot compare: {error}", USAGE, sys.stderr)
    if not 1 <= options.max_tokens <= 2048:
        return _say("cannot compare: --max-tokens must be from 1 to 2048", USAGE, sys.stderr)
    a, b = Worker(options.url_a, options.timeout), Worker(options.url_b, options.timeout)
    oracle = Oracle(options.model) if options.model else None
    try:
        _introduce(a, b)
        return _compare(a, b, prompts, options.max_tokens, oracle)
    except NotServedError as error:
        return _say(f"cannot compare: {error}", NOT_COMPARED, sys.stderr)
    finally:
        a.close()
        b.close()
        if oracle is not None:
            oracle.close()


def _say(text: str, code: int = EQUAL, stream: TextIO | None = None) -> int:
    out = stream or sys.stdout
    out.write(f"{text}\n")
    out.flush()
    return code


def _introduce(a: Worker, b: Worker) -> None:
    said = [worker.health() for worker in (a, b)]
    for name, worker, health in zip("AB", (a, b), said, strict=True):
        _say(f"{name}  {worker.url}  {health.get('model')!r}, {health.get('quant_kind')}, {health.get('device', '')}")
    for key in ("model", "quant_kind", "vocab_size", "context_length"):
        if said[0].get(key) != said[1].get(key):
            _say(f"note: {key} differs, {said[0].get(key)!r} and {said[1].get(key)!r}: is it the same file?")


def _compare(a: Worker, b: Worker, prompts: Sequence[str], max_tokens: int, oracle: Oracle | None) -> int:
    _say(f"\n{'prompt':{_WIDTH}}  {'tokens':>6}  {'A first, all':>16}  {'B first, all':>16}  verdict")
    answers: list[tuple[Generated, Generated]] = []
    equal = differing = 0
    for number, prompt in enumerate(prompts):
        shown = repr(prompt) if len(repr(prompt)) <= _WIDTH else repr(prompt)[: _WIDTH - 1] + "…"
        order = (a, b) if number % 2 == 0 else (b, a)  # neither is always the one that finds the machine warm
        got: dict[Worker, Generated] = {}
        failed: list[str] = []
        for worker in order:
            try:
                got[worker] = worker.greedy(prompt, max_tokens)
            except NotServedError as error:
                failed.append(f"{'A' if worker is a else 'B'}: {error}")
        if failed:
            _say(f"{shown:{_WIDTH}}  {'':6}  {'':16}  {'':16}  not compared: {'; '.join(failed)}")
            continue
        pair = got[a], got[b]
        answers.append(pair)
        verdict, same = _verdict(prompt, *pair, oracle)
        equal += same
        differing += not same
        tokens = min(len(side.texts) for side in pair)
        _say(f"{shown:{_WIDTH}}  {tokens:6}  {_times(pair[0]):>16}  {_times(pair[1]):>16}  {verdict}")
    left = len(prompts) - equal - differing
    _say(f"\n{equal} equal, {differing} differing, {left} not compared")
    for name, side in zip("AB", zip(*answers, strict=True), strict=False):
        _say(f"{name}  {_speed(side)}")
    return DIFFERS if differing else NOT_COMPARED if left else EQUAL


def _verdict(prompt: str, a: Generated, b: Generated, oracle: Oracle | None) -> tuple[str, bool]:
    part = parting(a, b)
    if part is None:
        return ("equal" if a.texts == b.texts else "equal text, let out in other pieces"), True
    told = f"differs at token {part.index}: A {_side(part.a)}, B {_side(part.b)}"
    margin = oracle.margin(prompt, a.texts[: part.index], part) if oracle else None
    if margin is None:
        return f"{told}; margin unknown", False
    taken = margin.preferred if margin.preferred in {"A", "B"} else repr(margin.preferred)
    return f"{told}; llama.cpp takes {taken}, margin {margin.logits:.2g}", False


def _side(text: str | None) -> str:
    return "had ended" if text is None else repr(text)


def _times(side: Generated) -> str:
    first = "-" if side.first_s is None else f"{side.first_s * 1e3:.1f}"
    return f"{first}, {side.total_s * 1e3:.0f} ms"


def _speed(side: Sequence[Generated]) -> str:
    firsts = [each.first_s * 1e3 for each in side if each.first_s is not None]
    # After the first token, so that a prompt's length does not count.
    later = sum(len(each.texts) - 1 for each in side if each.first_s is not None)
    seconds = sum(each.total_s - each.first_s for each in side if each.first_s is not None)
    if not firsts or seconds <= 0.0:
        return "no token"
    return f"first token {statistics.median(firsts):.1f} ms (median), then {later / seconds:.0f} tokens a second"
