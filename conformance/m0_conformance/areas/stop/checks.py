"""Checks of stop strings: where the text ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.run.known_texts import LONG, scripts
from m0_conformance.run.situation import OutOfReach, Situation, launch, repeated, requirement

if TYPE_CHECKING:
    from m0_conformance.judging.streams import Stream


@repeated(without=["company"])
@requirement("M0-W-1422/across-tokens", "M0-W-1422/keeps-prefix")
@launch("script")
async def test_stop_strings_of_known_texts(situation: Situation) -> None:
    """A stop string in three single-byte tokens, and one that begins and ends inside tokens."""
    promised = scripts(situation)
    for name, stop in (("stop", "END"), ("split-stop", "STOP")):
        if name not in promised:  # a model's own vocabulary cannot say it
            continue
        prompt = promised[name]["prompt"]
        await situation.execute("unstopped", prompt=prompt, max_tokens=LONG, temperature=0.0)
        await situation.execute("stopped across", prompt=prompt, max_tokens=LONG, temperature=0.0, stop=[stop])


LASTS_S = 4.0
SHORTEST = 20
"""Tokens that hold six different words of most texts."""


async def stopped(situation: Situation, label: str, prompt: str, *stops: str) -> Stream:
    """The greedy text with stop strings."""
    length = situation.pace.shorter(LONG, SHORTEST, LASTS_S)
    return await situation.execute(label, prompt=prompt, max_tokens=length, temperature=0.0, stop=list(stops))


@repeated()
@requirement("M0-W-1422/stops", "M0-W-1422/keeps-prefix", "M0-W-1422/earliest-of-four", "M0-W-1422/absent-string")
async def test_stop_strings_of_the_targets_own_text(situation: Situation) -> None:
    """Stop strings cut out of the target's own greedy text."""
    prompt = situation.prompt()
    length = situation.pace.shorter(LONG, SHORTEST, LASTS_S)
    plain = await situation.execute("unstopped", prompt=prompt, max_tokens=length, temperature=0.0)
    # Where a worker loses the spaces, only its tokens still show what a word is.
    shown = [piece.strip() for piece in plain.pieces] if situation.pace.rendering.lost else plain.text.split()
    words = [word for word in shown if len(word) > 1]
    first_of = {word: plain.text.index(word) for word in words}
    distinct = sorted(set(words), key=first_of.__getitem__)
    if len(distinct) < 6:
        situation.not_exercised(f"the greedy text has {len(distinct)} different words, 6 are needed")
    early, late = distinct[2], distinct[5]
    await stopped(situation, "stopped", prompt, late)
    await stopped(situation, "stopped", prompt, early)
    await stopped(situation, "earliest", prompt, late, early)
    await stopped(situation, "earliest", prompt, distinct[4], late, distinct[3], early)
    said_by_us = prompt.split()[-1][:8]  # short: a stop string has at most 32 tokens
    absent = [text for text in ("\u2603snow", "zzzzqqqq", said_by_us) if text not in plain.text]
    await stopped(situation, "absent", prompt, *absent)


ONES = " one two END three"
SHAPES = (
    ("stop", ONES[:16], "17 characters of six tokens from the text's beginning"),
    ("stop", "ne", "inside the first token"),
    ("stop", " one", "the whole first token"),
    ("stop", "o END thre", "from inside one token into another"),
    ("utf8", "é你", "two characters, each byte a token"),
    ("utf8", "你 mid", "from a character of three tokens into a word"),
    ("utf8", "\U0001f600", "a character of four tokens"),
    ("joined", "\u200d\U0001f469", "cut at places inside its characters"),
    ("eos", "w6", "the text's end"),
    ("eos", " w0 w1 w2 w3 w4 w5 w6", "the whole text"),
    ("eos", "w4 w5", "after four false beginnings"),
)
"""Script of the probe, stop string, and what is special about it."""
NOWHERE = (
    ("stop", ("end", "E ", "ND  ")),
    ("stop", (".*", "E.D", "[a-z]+", "$")),
    ("eos", ("w6 ", "w6!", " w5 w7")),
    ("utf8", ("é ", "\u4f61", "e\u0301", "\U0001f601")),
)
"""What a text comes close to: another case, a pattern, a beginning at its end, a neighbouring character."""
TOGETHER = (
    ("stop", ("three", "END", "two", "ne t")),
    ("stop", (" two END three", "END")),
    ("eos", ("w5", "w2 w3 w4 w5 w6 w7", "w4")),
    ("utf8", ("done", "\U0001f600", "middle", "你")),
)
"""Several at once, which overlap or begin like one that never comes."""
FAR = 160
"""Tokens, of which a stop string ends the job near the hundredth."""
DRAWN = {"temperature": 1.0, "seed": 2**64 - 1, "top_k": 40, "repetition_penalty": 1.1}


@requirement(
    "M0-W-1422/stops",
    "M0-W-1422/across-tokens",
    "M0-W-1422/keeps-prefix",
    "M0-W-1422/earliest-of-four",
    "M0-W-1422/absent-string",
)
@launch("script")
async def test_stop_strings_of_every_shape(situation: Situation) -> None:
    """Long, at the beginning, at the end, far on, of several bytes, several at once, nearly there; greedy and drawn."""
    promised = scripts(situation)
    for number, sampling in enumerate(({"temperature": 0.0}, DRAWN)):
        for name in ("stop", "utf8", "joined", "eos"):
            fields = {"prompt": promised[name]["prompt"], "max_tokens": 24, **sampling}
            await situation.execute("unstopped", **fields)
            for _, stop, _ in (shape for shape in SHAPES if shape[0] == name):
                await situation.execute("stopped across", stop=[stop], **fields)
            for kind, label in ((TOGETHER, "earliest"), (NOWHERE, "absent")):
                for stops in (stops for script, stops in kind if script == name):
                    turned = stops[number:] + stops[:number]
                    await situation.execute(label, stop=list(turned), **fields)
    fields = {"prompt": promised["words"]["prompt"], "max_tokens": FAR, "temperature": 0.0}
    plain = await situation.execute("unstopped", **fields)
    words = plain.text.split()
    if len(words) > 110:
        await situation.execute("stopped", stop=[words[100]], **fields)
        await situation.execute("stopped across", stop=[" ".join(words[98:103])], **fields)


@requirement("M0-W-1422/stops", "M0-W-1422/across-tokens", "M0-W-1422/keeps-prefix", "M0-W-1422/absent-string")
@launch("dice")
async def test_stop_strings_where_tokens_are_drawn(situation: Situation) -> None:
    """A face, two of them, and two after one of them came twice, on streams that only the seed decides."""
    if (situation.probe or {}).get("kind") != "dice":
        raise OutOfReach("needs the dice probe: --worker-command")
    for seed in (0, 11, 2**64 - 1):
        fields = {"prompt": "throw", "max_tokens": 96, "temperature": 1.0, "seed": seed}
        plain = await situation.execute("unstopped", **fields)
        await situation.execute("unstopped", **fields)
        words = plain.text.split()
        doubled = next((f"{b} {c}" for a, b, c in zip(words, words[1:], words[2:], strict=False) if a == b != c), None)
        if doubled is None:
            continue
        await situation.execute("stopped across", stop=[doubled], **fields)
        await situation.execute("stopped across", stop=[" ".join(words[70:76])], **fields)
        await situation.execute("stopped", stop=[f" {words[-1]}"], **fields)
        await situation.execute("absent", stop=[f"{words[-1]} never", "zero"], **fields)
