"""The script probe: the next token is a function of the current token, so the prompt's last token selects a string.

Each state has a row of a Hadamard matrix as embedding; all layer weights are zero, so the residual stream arrives
unchanged but for the signs of the output norm at the output, whose row j is the scaled sum of the rows of j's
predecessors with the same signs. The logit of the true successor
is LOGIT, of every other token 0, up to the rounding of the file's quantization (at most LOGIT - MARGIN).

Texts that must repeat a byte do so with different tokens, or with a token cut at an unusual place, because a token can
have one successor only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_models.bytelevel import Vocabulary
from m0_models.probes.form import HEAD, Form, Probe, hadamard, promised, write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOGIT: Final = 64.0
"""A power of two: its share per dimension is exact in every block format."""
MARGIN: Final = 51.2
STATES: Final = 512
LEADERS: Final = 7
"""Words before the end of sequence in the script "eos"."""


@dataclass(frozen=True, slots=True)
class Script:
    """A string that starts after the single-byte token ``trigger``; ``then`` is "words" or "eos"."""

    name: str
    trigger: str
    pieces: tuple[bytes, ...]
    then: str
    note: str


def _pieces(*texts: str | bytes) -> tuple[bytes, ...]:
    return tuple(t.encode() if isinstance(t, str) else t for t in texts)


def _single(text: str) -> tuple[bytes, ...]:
    return tuple(bytes([b]) for b in text.encode())


# é, 你, 😀 as single bytes: no byte occurs twice among them.
_UTF8: Final = (b" utf8:", *_single("é"), *_single("你"), b" middle ", *_single("😀"), b" done.")
# e with a combining acute; family of three joined by U+200D, cut at nine places inside its characters; a flag.
_JOINED: Final = _pieces(
    " joined:", " e", b"\xcc", b"\x81", b" \xf0\x9f", b"\x91\xa8", b"\xe2", b"\x80\x8d", b"\xf0\x9f\x91",
    b"\xa9\xe2\x80", b"\x8d\xf0", b"\x9f\x91\xa7", " flag ", b"\xf0\x9f\x87\xa9\xf0", b"\x9f\x87", b"\xaa", " joined.",
)  # fmt: skip
_INVALID: Final = _pieces(" before", b"\xff", " between", b"\xe2\x82", " after", b"\xc0\xaf", " end.")
_CUT: Final = _pieces(" cut", " here:", b"\xe6", b"\x97")  # two of the three bytes of 日, then EOS
SCRIPTS: Final = (
    Script("utf8", "#", _UTF8, "words", "characters of 2, 3 and 4 bytes, each byte a token"),
    Script("joined", "&", _JOINED, "words", "combining mark, ZWJ sequence and flag cut inside characters"),
    Script("invalid", "%", _INVALID, "words", "FF, a lone E2 82 and an overlong C0 AF between words"),
    Script("cut", "@", _CUT, "eos", "the text ends inside a character"),
    Script("eos", "$", tuple(f" w{i}".encode() for i in range(LEADERS)), "eos", "seven words, then end of sequence"),
    Script("empty", "^", (), "eos", "end of sequence at once"),
    Script("stop", "=", _pieces(" one", " two ", "E", "N", "D", " three"), "words", "END as three single-byte tokens"),
    Script("split-stop", "+", _pieces(" four", " fiveST", "OP", "six", " seven"), "words", "STOP across token borders"),
    Script("words", "*", (), "words", "the cycle of words from its start"),
)

_CONSONANTS: Final = "bdfghjklmnprstvwz"
_VOWELS: Final = "aeiou"


def words(count: int) -> list[bytes]:
    """``count`` (at most 7,225) different four-letter ASCII words with a leading space, in a scrambled order."""
    syllables = [c + v for c in _CONSONANTS for v in _VOWELS]
    total = len(syllables) ** 2
    return [f" {syllables[k // 85]}{syllables[k % 85]}".encode() for k in (i * 3571 % total for i in range(count))]


def script(
    path: Path, *, form: Form = "qwen2", quant: str = "Q4_0", name: str = "script probe", layers: int = 1
) -> Probe:
    """Write the script probe to ``path``; more ``layers`` make it slower and change nothing it says.

    facts: ``scripts`` {prompt: {name, tokens (hex), text, cycle (hex), ends, note}}, ``prompts`` {name: prompt},
    ``default`` (the prompt whose script follows every token that has none), ``logit``, ``margin``, ``eos``, ``vocab``.
    A string is tokens, then cycle over and over when ends is "never", or the end of sequence when it is "eos".
    """
    vocabulary = Vocabulary(pre="llama-bpe" if form == "llama" else "qwen2")
    for left, right in ((b"t", b"h"), (b"th", b"e"), (b"a", b"n"), (b"an", b"d"), (b"i", b"n"), (b" ", b"the")):
        vocabulary.merge(left, right)
    _runs(vocabulary)
    eos = vocabulary.control("<|endoftext|>")
    vocabulary.control("<|mark|>")

    chains: list[tuple[list[int], str]] = []
    for entry in SCRIPTS:
        pieces = [_id(vocabulary, piece) for piece in entry.pieces]
        chains.append(([_id(vocabulary, entry.trigger.encode()), *pieces], entry.then))
    used = sum(len(chain) for chain, _ in chains) + 2  # the end of sequence and the state of all other tokens
    cycle = [vocabulary.add(word) for word in words(STATES - used)]

    successor = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    for chain, then in chains:
        if shared := successor.keys() & chain:
            raise ValueError(f"tokens with two successors: {sorted(vocabulary.text[t] for t in shared)}")
        successor.update(zip(chain, [*chain[1:], eos if then == "eos" else cycle[0]], strict=True))
    write_chain(
        path,
        vocabulary,
        successor,
        eos,
        default=cycle[0],
        states=STATES,
        form=form,
        quant=quant,
        name=name,
        layers=layers,
    )
    scripts = {entry.trigger: _facts(entry, [vocabulary.text[t] for t in cycle]) for entry in SCRIPTS}
    return promised(
        path,
        "script",
        vocabulary,
        eos,
        form=form,
        quant=quant,
        scripts=scripts,
        prompts={entry.name: entry.trigger for entry in SCRIPTS},
        default="*",
        eos_after=LEADERS,
        stop={"stop": "END", "split-stop": "STOP"},
        logit=LOGIT,
        margin=MARGIN,
    )


def _facts(entry: Script, cycle: Sequence[bytes]) -> dict[str, Any]:
    endless = entry.then == "words"
    return {
        "name": entry.name,
        "note": entry.note,
        "tokens": [piece.hex() for piece in entry.pieces],
        "text": b"".join(entry.pieces).decode(errors="replace"),
        "cycle": [word.hex() for word in cycle] if endless else [],
        "ends": "never" if endless else "eos",
    }


def _runs(vocabulary: Vocabulary) -> None:
    """Merges up to 64 x and 64 grinning faces in one token: the longest legal prompt of either fits the context."""
    face = "😀".encode()
    for cut in (1, 2, 3):
        vocabulary.merge(face[:cut], face[cut : cut + 1])
    for unit in (b"x", face):
        for power in range(6):
            vocabulary.merge(unit * 2**power, unit * 2**power)


def _id(vocabulary: Vocabulary, piece: bytes) -> int:
    return piece[0] if len(piece) == 1 else vocabulary.add(piece)


def write_chain(
    path: Path,
    vocabulary: Vocabulary,
    successor: dict[int, int],
    eos: int,
    *,
    default: int,
    states: int,
    form: Form,
    quant: str,
    name: str,
    layers: int = 1,
) -> None:
    """Write a model that says ``successor[token]`` after each token, and ``default`` after any other one."""
    rows = hadamard(states)
    state = np.zeros(len(vocabulary), dtype=np.intp)  # state 0 is shared by all tokens without a successor of their own
    for number, token in enumerate(sorted(successor), start=1):
        state[token] = number
    output = np.zeros((len(vocabulary), states), dtype=np.float32)
    for token, target in successor.items():
        output[target] += rows[state[token]]
    output[default] += rows[0]
    # Signs that no block format stores: a reader that takes the values of a block in another order, the same one in
    # embedding and output, would otherwise not be seen.
    signs = np.random.default_rng(states).choice(np.array([-1.0, 1.0], dtype=np.float32), states)
    write(
        path,
        form=form,
        quant=quant,
        name=name,
        vocabulary=vocabulary,
        eos=eos,
        embeddings=rows[state],
        output=output * signs * np.float32(LOGIT / states),
        output_norm=signs,
        layers=layers,
    )


def metronome(path: Path, *, form: Form = "qwen2", quant: str = "Q4_0", name: str = "metronome probe") -> Probe:
    """Write a very small script probe (d = 64): a cycle of 63 words after any prompt, to time everything but the model.

    facts: ``cycle`` (hex), ``vocab``, ``eos``.

    Raises:
        ValueError: a K-quant was asked for, whose rows cannot be 64 wide.
    """
    vocabulary = Vocabulary()
    vocabulary.merge(b"t", b"h")
    eos = vocabulary.control("<|endoftext|>")
    cycle = [vocabulary.add(word) for word in words(HEAD - 1)]
    successor = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    write_chain(path, vocabulary, successor, eos, default=cycle[0], states=HEAD, form=form, quant=quant, name=name)
    return promised(path, "metronome", vocabulary, eos, form=form, quant=quant, cycle=vocabulary.hexed(cycle))


CHATTER_LOGIT: Final = 8.0
NEVER: Final = 64.0


def chatter(path: Path, *, form: Form = "qwen2", quant: str = "Q4_0", name: str = "chatter probe") -> Probe:
    """Write a probe that behaves as a talkative model does: one clear next word, and others when it is warm.

    A cycle of 63 words like the metronome's, but the true successor's logit is only 8 above the 62 other words: at
    temperature 0 the cycle comes out exactly, at temperature 2 about every second token is another word. Bytes and the
    end of sequence are never drawn. It stands in for a model behind a URL, of which a suite knows nothing.

    facts: ``cycle`` (hex), ``vocab``, ``eos``.

    Raises:
        ValueError: a K-quant was asked for, whose rows cannot be 64 wide.
    """
    vocabulary = Vocabulary()
    _runs(vocabulary)
    eos = vocabulary.control("<|endoftext|>")
    cycle = [vocabulary.add(word) for word in words(HEAD - 1)]
    rows = hadamard(HEAD)
    state = np.zeros(len(vocabulary), dtype=np.intp)
    output = np.zeros((len(vocabulary), HEAD), dtype=np.float32)
    # The first column of a Hadamard matrix is all ones, so a weight there is a bias on the logit.
    output[:, 0] = -NEVER
    for number, (token, target) in enumerate(zip(cycle, cycle[1:] + cycle[:1], strict=True), start=1):
        state[token] = number
        output[target] = rows[number] * np.float32(CHATTER_LOGIT / HEAD)
    output[cycle[0]] += rows[0] * np.float32(CHATTER_LOGIT / HEAD)
    write(
        path,
        form=form,
        quant=quant,
        name=name,
        vocabulary=vocabulary,
        eos=eos,
        embeddings=rows[state],
        output=output,
    )
    return promised(path, "chatter", vocabulary, eos, form=form, quant=quant, cycle=vocabulary.hexed(cycle))
