"""Checks of stop strings: where the text ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.run.known_texts import LONG, scripts
from m0_conformance.run.situation import Situation, launch, requirement

if TYPE_CHECKING:
    from m0_conformance.judging.streams import Stream


@requirement("M0-W-1422/across-tokens", "M0-W-1422/keeps-prefix")
@launch("script")
async def test_stop_strings_of_known_texts(situation: Situation) -> None:
    """A stop string in three single-byte tokens, and one that begins and ends inside tokens."""
    promised = scripts(situation)
    for name, stop in (("stop", "END"), ("split-stop", "STOP")):
        prompt = promised[name]["prompt"]
        await situation.execute("unstopped", prompt=prompt, max_tokens=LONG, temperature=0.0)
        await situation.execute("stopped across", prompt=prompt, max_tokens=LONG, temperature=0.0, stop=[stop])


async def stopped(situation: Situation, label: str, prompt: str, *stops: str) -> Stream:
    """The greedy text with stop strings."""
    return await situation.execute(label, prompt=prompt, max_tokens=LONG, temperature=0.0, stop=list(stops))


@requirement("M0-W-1422/stops", "M0-W-1422/keeps-prefix", "M0-W-1422/earliest-of-four", "M0-W-1422/absent-string")
async def test_stop_strings_of_the_targets_own_text(situation: Situation) -> None:
    """Stop strings cut out of the target's own greedy text."""
    prompt = situation.prompt()
    plain = await situation.execute("unstopped", prompt=prompt, max_tokens=LONG, temperature=0.0)
    words = [word for word in plain.text.split() if len(word) > 1]
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
