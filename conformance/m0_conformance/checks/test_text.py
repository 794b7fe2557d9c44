"""What the model says is what the client reads: characters, end of sequence, stop strings.

Exact on the script probe, whose next token is known; relations on any model. The judges are in `judges/text.py` and
`judges/stop.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m0_conformance.situation import OutOfReach, Situation, launch, requirement

if TYPE_CHECKING:
    from m0_conformance.judges.views import Stream

LONG = 64
"""Tokens asked for where the script would go on for ever."""


def scripts(situation: Situation) -> dict[str, dict[str, Any]]:
    """The script probe's promises by name, noted for the judges; ends the check on any other model."""
    known = (situation.probe or {}).get("scripts")
    if not known:
        raise OutOfReach("the model's next tokens are not known; needs --worker-command")
    promised = {entry["name"]: {"prompt": prompt, **entry} for prompt, entry in known.items()}
    situation.fact("scripts", promised)
    return promised


@requirement(
    "M0-W-1362/text-exact",
    "M0-W-1362/holds-incomplete",
    "M0-W-1362/invalid-byte",
    "M0-W-1362/unfinished-at-end",
    "M0-W-1362/eos-ends",
    "M0-W-1362/eos-silent",
    "M0-W-1420/next-token",
)
@launch("script")
async def test_known_texts(situation: Situation) -> None:
    """Every script at temperature 0; and one job that ends in the middle of a character."""
    promised = scripts(situation)
    for name, script in promised.items():
        await situation.execute(f"script {name}", prompt=script["prompt"], max_tokens=LONG, temperature=0.0)
    # " utf8:" and the first of the two bytes of é
    await situation.execute("cut by max_tokens", prompt=promised["utf8"]["prompt"], max_tokens=2, temperature=0.0)


@requirement("M0-W-1824/no-replacement")
@launch("script")
async def test_multibyte_text_at_the_specs_temperature(situation: Situation) -> None:
    """As M0-W-1824 has it: 20 tokens, temperature 0.7."""
    promised = scripts(situation)
    for name in ("utf8", "joined"):
        await situation.execute(
            f"multibyte {name}", prompt=promised[name]["prompt"], max_tokens=20, temperature=0.7, seed=42
        )


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
