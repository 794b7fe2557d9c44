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
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from m0_models.bytelevel import Unsayable
from m0_models.found import Found
from m0_models.probes.form import form_of, place, promised, vocabulary_for, write
from m0_models.probes.parts import HEAD, Rows, hadamard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from m0_models.bytelevel import Vocabulary
    from m0_models.probes.likeness import Likeness
    from m0_models.probes.parts import Floats, Form, Probe

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
_UTF8: Final = (b" utf", *_single("é"), *_single("你"), b" middle ", *_single("😀"), b" done")
# e with a combining acute; family of three joined by U+200D, cut at nine places inside its characters; a flag.
_JOINED: Final = _pieces(
    " family", " e", b"\xcc", b"\x81", b" \xf0\x9f", b"\x91\xa8", b"\xe2", b"\x80\x8d", b"\xf0\x9f\x91",
    b"\xa9\xe2\x80", b"\x8d\xf0", b"\x9f\x91\xa7", " flag ", b"\xf0\x9f\x87\xa9\xf0", b"\x9f\x87", b"\xaa", " joined",
)  # fmt: skip
_INVALID: Final = _pieces(" before", b"\xff", " between", b"\xe2\x82", " after", b"\xc0\xaf", " end")
_CUT: Final = _pieces(" cut", " here", b"\xe6", b"\x97")  # two of the three bytes of 日, then EOS
SCRIPTS: Final = (
    Script("utf8", "#", _UTF8, "words", "characters of 2, 3 and 4 bytes, each byte a token"),
    Script("joined", "&", _JOINED, "words", "combining mark, ZWJ sequence and flag cut inside characters"),
    Script("invalid", "%", _INVALID, "words", "FF, a lone E2 82 and an overlong C0 AF between words"),
    Script("cut", "@", _CUT, "eos", "the text ends inside a character"),
    Script("eos", "$", tuple(f" w{i}".encode() for i in range(LEADERS)), "eos", "seven words, then end of sequence"),
    Script("empty", "^", (), "eos", "end of sequence at once"),
    Script("stop", "=", _pieces(" one", " two", "E", "N", "D", " three"), "words", "END as three single-byte tokens"),
    Script("split-stop", "+", _pieces(" four", " fiveST", "OP", "six", " seven"), "words", "STOP across token borders"),
    Script("words", "*", (), "words", "the cycle of words from its start"),
)


def script(
    path: Path,
    *,
    form: Form | None = None,
    quant: str = "Q4_0",
    name: str = "script probe",
    layers: int = 1,
    like: Likeness | None = None,
    spm: bool = False,
) -> Probe:
    """Write the script probe to ``path``; more ``layers`` make it slower and change nothing it says.

    facts: ``scripts`` {prompt: {name, tokens (hex), text, cycle (hex), ends, note}}, ``prompts`` {name: prompt},
    ``default`` (the prompt whose script follows every token that has none), ``logit``, ``margin``, ``eos``, ``vocab``,
    ``longest`` (whether every legal prompt fits the context). A string is tokens, then cycle over and over when ends is
    "never", or the end of sequence when it is "eos". A script that the vocabulary cannot say is left out.
    """
    form = form_of(form, like)
    vocabulary = vocabulary_for(form, like, spm=spm)
    for left, right in ((b"t", b"h"), (b"th", b"e"), (b"a", b"n"), (b"an", b"d"), (b"i", b"n"), (b" ", b"the")):
        vocabulary.merge(left, right)
    _runs(vocabulary)
    eos = vocabulary.end()
    vocabulary.control("<|mark|>")
    path = place(path, form)

    told = _told(vocabulary)
    chains = list(told.values())
    used = sum(1 + len(chain.tokens) for chain in chains) + 2  # the end of sequence and the state of all other tokens
    cycle = vocabulary.words(STATES - used, _taken(chains))

    successor = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    twins: dict[int, int] = {}
    for chain in chains:
        tokens = [chain.endings[0], *chain.tokens]
        if shared := successor.keys() & tokens:
            raise ValueError(f"tokens with two successors: {sorted(vocabulary.text[t] for t in shared)}")
        successor.update(zip(tokens, [*tokens[1:], eos if chain.then == "eos" else cycle[0]], strict=True))
        twins.update(dict.fromkeys(chain.endings[1:], chain.endings[0]))
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
        like=like,
        twins=twins,
    )
    words = vocabulary.hexed(cycle)
    scripts = {
        entry.trigger: _facts(entry, vocabulary.hexed(told[entry.name].tokens), words)
        for entry in SCRIPTS
        if entry.name in told
    }
    return promised(
        path,
        "script",
        vocabulary,
        eos,
        form=form,
        quant=quant,
        like=like,
        scripts=scripts,
        prompts={entry["name"]: trigger for trigger, entry in scripts.items()},
        default="*",
        eos_after=LEADERS,
        stop={"stop": "END", "split-stop": "STOP"},
        longest=not isinstance(vocabulary, Found),
        logit=LOGIT,
        margin=MARGIN,
    )


@dataclass(frozen=True, slots=True)
class _Chain:
    """The tokens of a script: those that a prompt can end in to begin it, and those that it says."""

    endings: list[int]
    tokens: list[int]
    then: str


def _taken(chains: Iterable[_Chain]) -> set[int]:
    return {token for chain in chains for token in (*chain.endings, *chain.tokens)}


def _told(vocabulary: Vocabulary) -> dict[str, _Chain]:
    """The scripts that a vocabulary can say, by name."""
    endings = {entry.name: vocabulary.endings(entry.trigger) for entry in SCRIPTS}
    told: dict[str, _Chain] = {}
    for entry in SCRIPTS:
        taken = {token for tokens in endings.values() for token in tokens} | _taken(told.values())
        tokens: list[int] = []
        try:
            if entry.name == "eos" and isinstance(vocabulary, Found):
                tokens = vocabulary.words(LEADERS, taken)
            else:
                for piece in entry.pieces:
                    tokens += vocabulary.spelled(piece, taken | set(tokens))
        except Unsayable:
            continue
        told[entry.name] = _Chain(endings[entry.name], tokens, entry.then)
    return told


def _facts(entry: Script, tokens: list[str], cycle: list[str]) -> dict[str, Any]:
    endless = entry.then == "words"
    return {
        "name": entry.name,
        "note": entry.note,
        "tokens": tokens,
        "text": b"".join(bytes.fromhex(token) for token in tokens).decode(errors="replace"),
        "cycle": cycle if endless else [],
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
    like: Likeness | None = None,
    twins: Mapping[int, int] = MappingProxyType({}),
) -> None:
    """Write a model that says ``successor[token]`` after each token, and ``default`` after any other one.

    ``twins`` maps tokens to those whose successor they have.
    """
    rows = hadamard(states)
    state = np.zeros(len(vocabulary), dtype=np.intp)  # state 0 is shared by all tokens without a successor of their own
    for number, token in enumerate(sorted(successor), start=1):
        state[token] = number
    for twin, token in twins.items():
        state[twin] = state[token]
    sums: dict[int, Floats] = {default: rows[0].copy()}
    for token, target in successor.items():
        sums[target] = sums.get(target, 0) + rows[state[token]]
    index = np.zeros(len(vocabulary), dtype=np.intp)
    index[list(sums)] = 1 + np.arange(len(sums))
    output = np.stack([np.zeros(states, dtype=np.float32), *sums.values()])
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
        embeddings=Rows(rows, state),
        output=Rows(output * signs * np.float32(LOGIT / states), index),
        output_norm=signs,
        layers=layers,
        like=like,
    )


def metronome(
    path: Path,
    *,
    form: Form | None = None,
    quant: str = "Q4_0",
    name: str = "metronome probe",
    like: Likeness | None = None,
    spm: bool = False,
) -> Probe:
    """Write a very small script probe (d = 64): a cycle of 63 words after any prompt, to time everything but the model.

    facts: ``cycle`` (hex), ``vocab``, ``eos``.

    Raises:
        ValueError: a K-quant was asked for, whose rows cannot be 64 wide.
    """
    form = form_of(form, like)
    vocabulary = vocabulary_for(form, like, spm=spm)
    vocabulary.merge(b"t", b"h")
    eos = vocabulary.end()
    path = place(path, form)
    cycle = vocabulary.words(HEAD - 1, ())
    successor = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
    write_chain(
        path, vocabulary, successor, eos, default=cycle[0], states=HEAD, form=form, quant=quant, name=name, like=like
    )
    cycled = vocabulary.hexed(cycle)
    return promised(path, "metronome", vocabulary, eos, form=form, quant=quant, like=like, cycle=cycled)


CHATTER_LOGIT: Final = 8.0
NEVER: Final = 64.0


def chatter(
    path: Path,
    *,
    form: Form | None = None,
    quant: str = "Q4_0",
    name: str = "chatter probe",
    like: Likeness | None = None,
    spm: bool = False,
) -> Probe:
    """Write a probe that behaves as a talkative model does: one clear next word, and others when it is warm.

    A cycle of 63 words like the metronome's, but the true successor's logit is only 8 above the 62 other words: at
    temperature 0 the cycle comes out exactly, at temperature 2 about every second token is another word. Bytes and the
    end of sequence are never drawn. It stands in for a model behind a URL, of which a suite knows nothing.

    facts: ``cycle`` (hex), ``vocab``, ``eos``.

    Raises:
        ValueError: a K-quant was asked for, whose rows cannot be 64 wide.
    """
    form = form_of(form, like)
    vocabulary = vocabulary_for(form, like, spm=spm)
    _runs(vocabulary)
    eos = vocabulary.end()
    path = place(path, form)
    cycle = vocabulary.words(HEAD - 1, ())
    rows = hadamard(HEAD)
    state = np.zeros(len(vocabulary), dtype=np.intp)
    state[cycle] = 1 + np.arange(len(cycle))
    # The first column of a Hadamard matrix is all ones, so a weight there is a bias on the logit.
    never = np.zeros((1, HEAD), dtype=np.float32)
    never[0, 0] = -NEVER
    output = np.roll(rows[1:], 1, axis=0).copy()  # a word is said after the one before it in the cycle
    output[0] += rows[0]
    index = np.zeros(len(vocabulary), dtype=np.intp)
    index[cycle] = 1 + np.arange(len(cycle))
    write(
        path,
        form=form,
        quant=quant,
        name=name,
        vocabulary=vocabulary,
        eos=eos,
        embeddings=Rows(rows, state),
        output=Rows(np.concatenate([never, output * np.float32(CHATTER_LOGIT / HEAD)]), index),
        like=like,
        padding=never[0],
    )
    cycled = vocabulary.hexed(cycle)
    return promised(path, "chatter", vocabulary, eos, form=form, quant=quant, like=like, cycle=cycled)
