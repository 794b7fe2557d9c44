"""Judges of the arithmetic: a read-out's first word that is not "right" names the mistake."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from m0_conformance.judging.judge import fail, judge, ok
from m0_conformance.judging.streams import stream_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_conformance.judging.finding import Finding
    from m0_conformance.judging.streams import Stream
    from m0_conformance.recording.transcript import Json, Recording

_LLAMA: Final = ("M0-W-1214/parity", "M0-W-1430/kernels")
_GPT2: Final = ("M0-W-1215/parity", "M0-W-1432/formula", "M0-W-1433/formula", "M0-W-1434/formula")
CLAUSES: Final[dict[str, tuple[str, ...]]] = {
    "llama-forward": _LLAMA,
    "qwen2-forward": ("M0-W-1214/parity",),
    "phi3-forward": ("M0-W-1214/parity",),
    "gpt2-forward": _GPT2,
    "gpt-oss-forward": ("M0-W-1420/parity",),
    "llama-epsilon": ("M0-W-1430/kernels",),
    "qwen2-epsilon": ("M0-W-1214/parity",),
    "phi3-epsilon": ("M0-W-1214/parity",),
    "gpt2-epsilon": ("M0-W-1432/formula",),
    "gpt-oss-epsilon": ("M0-W-1420/parity",),
    "llama-mean": ("M0-W-1430/kernels",),
    "gpt2-layernorm": ("M0-W-1432/formula",),
    "gpt2-gelu": ("M0-W-1433/formula",),
    "gpt-oss-clamp": ("M0-W-1420/parity",),
    "gpt-oss-yarn": ("M0-W-1420/parity",),
    "stored-q4_0": ("M0-W-1201/kernel-arithmetic",),
    "stored-q4_k": ("M0-W-1201/kernel-arithmetic",),
    "stored-q5_0": ("M0-W-1201/kernel-arithmetic",),
    "stored-q6_k": ("M0-W-1201/kernel-arithmetic",),
    "stored-q8_0": ("M0-W-1201/kernel-arithmetic",),
    "stored-mxfp4": ("M0-W-1822/within-tolerance",),
    "llama-q4_0-stream": ("M0-W-1214/parity",),
    "qwen2-q4_k_m-stream": ("M0-W-1214/parity",),
    "phi3-q4_k_m-stream": ("M0-W-1214/parity",),
    "gpt2-q4_0-stream": ("M0-W-1215/parity",),
    "llama-mxfp4-stream": ("M0-W-1435/layouts",),
    "gpt-oss-mxfp4-stream": ("M0-W-1435/layouts",),
}
"""Read-out to the clauses that it shows; a mistake without a home of its own belongs to the first."""
_HOMES: Final = (
    ("M0-W-1433/formula", ("gelu-",)),
    ("M0-W-1434/formula", ("positions-",)),
    ("M0-W-1432/formula", ("layer-", "epsilon-", "final-shift", "norm-weights", "final-norm")),
    (
        "M0-W-1430/kernels",
        (
            *("rope-", "rms-", "epsilon-", "score-scale", "gate-gelu", "gate-relu", "gate-sigmoid", "gate-linear"),
            *("looks-ahead", "not-itself", "no-mask", "first-token-lost", "prompt-", "own-key-late", "positions-"),
        ),
    ),
)
"""Clauses and the beginnings of the mistakes that are theirs, the first that a read-out shows."""
_PIECE: Final = re.compile(r"\[[^\]]*\]")


def home(readout: str, mistake: str) -> str:
    """The clause that a mistake breaks when this read-out names it."""
    shown = CLAUSES[readout]
    for clause, beginnings in _HOMES:
        if clause in shown and mistake.startswith(beginnings):
            return clause
    return shown[0]


@judge(*dict.fromkeys(clause for clauses in CLAUSES.values() for clause in clauses))
def says_right(recording: Recording) -> Iterator[Finding]:
    """All prompts say right; where some don't, what they name is the mistake, if they name the same."""
    for readout, promise in recording.facts.get("readouts", {}).items():
        heard = [
            (stream, prompt["says"], _PIECE.findall(stream.text))
            for number, prompt in enumerate(promise["prompts"])
            for stream in map(stream_of, recording.labelled(f"{readout} {number}"))
            if stream.tokens
        ]
        wrong = [(stream, says, said) for stream, says, said in heard if said != says]
        if wrong:
            yield _finding(readout, promise, wrong)
        elif len(heard) == len(promise["prompts"]):
            yield from (ok(heard[-1][0], clause=clause) for clause in CLAUSES[readout])


def _finding(readout: str, promise: dict[str, Json], wrong: list[tuple[Stream, list[str], list[str]]]) -> Finding:
    stream, says, said = wrong[0]
    firsts = [_first_unlike(*pair) for _, *pair in wrong]
    named = {promise["names"].get(piece) for piece in firsts}
    mistake = named.pop() if len(named) == 1 else None
    about = promise["about"].get(mistake) if mistake else None
    expected, actual = " ".join(says), " ".join(said) or repr(stream.text[:80])
    if mistake and about:
        message = f"the worker {about}"
        return fail(stream, mistake, message, expected=expected, actual=actual, clause=home(readout, mistake))
    known = len(promise["about"])
    message = f"the numbers are neither right nor those of any of {known} known mistakes" if known else "other tokens"
    return fail(stream, "unlike", message, expected=expected, actual=actual, clause=CLAUSES[readout][0])


def _first_unlike(says: list[str], said: list[str]) -> str:
    for place, wanted in enumerate(says):
        if place >= len(said) or said[place] != wanted:
            return said[place] if place < len(said) else ""
    return ""
