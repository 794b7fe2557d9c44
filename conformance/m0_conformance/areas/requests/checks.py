"""Checks of POST /execute's parameters: each limit from both sides, defaults, and the same job in other words."""

from __future__ import annotations

import json
from typing import Any

from m0_conformance.conditions.rounds import FORMS, WRITTEN
from m0_conformance.run.cases import JSON_TYPE, Cases
from m0_conformance.run.situation import NUMBERS, OMIT, Situation, launch, repeated, requirement
from m0_conformance.run.variation import only

FACE = "\U0001f600"
LONGEST = 32768
ASTRAL = (LONGEST, LONGEST // 2 + 1, LONGEST // 2, LONGEST // 4 + 1, LONGEST // 4)
"""Characters of two UTF-16 units and four UTF-8 bytes: just above and at the limit in units, then in bytes."""


@repeated()
@requirement(
    "M0-W-1300/streams",
    "M0-W-1300/job-id",
    "M0-W-1300/prompt",
    "M0-W-1300/max-tokens-range",
    "M0-W-1300/temperature-range",
    "M0-W-1300/top-p-range",
    "M0-W-1300/top-k-range",
    "M0-W-1300/top-k-vocabulary",
    "M0-W-1300/repetition-penalty-range",
    "M0-W-1300/seed-range",
    "M0-W-1302/status-400",
    "M0-W-1302/error-json",
    "M0-W-1302/names-field",
    "M0-W-1302/never-5xx",
    "M0-W-1500/code-set",
    "M0-W-1500/invalid-request-code",
    "M0-W-1510/invalid-not-retriable",
)
async def test_numbers_and_required_fields(situation: Situation) -> None:
    """Numbers on each side of each limit; job_id and prompt missing, null and empty."""
    cases = Cases(situation)
    for name in ("job_id", "prompt"):
        clause = "M0-W-1300/" + name.replace("_", "-")
        for word, value in (("missing", OMIT), ("null", None), ("empty", "")):
            chosen: dict[str, Any] = {name: value}
            await cases.job(f"{name} {word}", clause, "refuse", name=name, **chosen)
    await cases.sides("max_tokens", "M0-W-1300/max-tokens-range", legal=(1, 2048), illegal=(0, 2049, -1, 10000))
    for name, top in (("temperature", 2.0), ("top_p", 1.0), ("repetition_penalty", 2.0)):
        clause = f"M0-W-1300/{name.replace('_', '-')}-range"
        illegal = (-0.01, -1e-9, top * (1 + 1e-6), top + 0.01, 1e300)
        await cases.sides(name, clause, legal=(0.0, top), illegal=illegal, edge=(top + 1e-9,))
    await cases.sides("top_k", "M0-W-1300/top-k-range", legal=(0, 1), illegal=(-1, 1.5))
    size = situation.health_identity.get("vocab_size")
    if isinstance(size, int) and size > 1:
        await cases.sides("top_k", "M0-W-1300/top-k-range", legal=(size,))
        await cases.sides("top_k", "M0-W-1300/top-k-vocabulary", illegal=(size + 1, 2**31))
    await cases.sides("seed", "M0-W-1300/seed-range", legal=(0, 2**53 + 1, 2**64 - 1), illegal=(-1, 1.5, 2**64))


@repeated()
@requirement("M0-W-1300/stop-count", "M0-W-1300/stop-length", "M0-W-1300/stop-empty-item", "M0-W-1300/minimal-body")
async def test_stop_lists_and_the_smallest_body(situation: Situation) -> None:
    """Four and five stop strings, a few words and hundreds, an empty one; and a body of job_id and prompt alone."""
    cases = Cases(situation)
    await cases.job("four stop strings", "M0-W-1300/stop-count", "accept", name="stop", stop=["1!", "2!", "3!", "4!"])
    five = [f"{number}!" for number in range(5)]
    await cases.job("five stop strings", "M0-W-1300/stop-count", "refuse", name="stop", stop=five)
    await cases.job("a short stop string", "M0-W-1300/stop-length", "accept", name="stop", stop=["a b c"])
    endless = " ".join(f"{number}th-{number * 7919 % 1009}" for number in range(200))
    await cases.job("an endless stop string", "M0-W-1300/stop-length", "refuse", name="stop", stop=[endless])
    await cases.job("an empty stop string", "M0-W-1300/stop-empty-item", "refuse", name="stop", stop=[""])
    await cases.job("one empty stop string of two", "M0-W-1300/stop-empty-item", "refuse", name="stop", stop=["x!", ""])
    await cases.job("nothing but the two required fields", "M0-W-1300/minimal-body", "accept", **NUMBERS)


@repeated(without=["prompt"], rounds=2)
@requirement("M0-W-1300/prompt-max", "M0-W-1300/prompt-unit", "M0-W-1300/body-size")
async def test_longest_prompt(situation: Situation) -> None:
    """32,768 characters and one more; the same of four bytes each; and written with escapes only.

    A model that is not ours may lack the context, so texts are tried that most vocabularies hold in few tokens.
    """
    cases = Cases(situation)
    probe = situation.probe
    if probe is not None and probe.get("longest"):
        situation.fact("fits", value=True)  # the probe merges 64 of either into one token
    situation.fact("context_length", situation.health_identity.get("context_length"))
    plain = ""
    for text in ("x", "The quick brown fox jumps over the lazy dog again. ", " "):
        plain = (text * LONGEST)[:LONGEST]
        await cases.job("32768 characters", "M0-W-1300/prompt-max", "accept", name="prompt", prompt=plain)
        if situation.recording.labelled("32768 characters")[-1].status == 200:
            break
    await cases.job("32769 characters", "M0-W-1300/prompt-max", "refuse", name="prompt", prompt=plain + plain[-1])
    served = 0
    for count in ASTRAL:
        label = f"{count} astral characters"
        job = {**situation.pace.form, "job_id": label, "prompt": FACE * count, "max_tokens": 1}
        body = json.dumps(job, ensure_ascii=False).encode()
        await cases.raw(label, "M0-W-1300/prompt-unit", "accept", "value", body, name="prompt")
        if situation.recording.labelled(label)[0].status == 200:
            served = count
            break
    escaped = "".join(f"\\u{ord(char):04x}" for char in plain)
    fields = json.dumps({**situation.pace.form, "job_id": "escaped", "max_tokens": 1})
    body = f'{fields[:-1]}, "prompt": "{escaped}"}}'.encode()
    await cases.raw("196 kB of escapes", "M0-W-1300/body-size", "accept", "value", body, name="prompt")
    if served > LONGEST // 2:
        job = {**situation.pace.form, "job_id": "escaped", "prompt": FACE * served, "max_tokens": 1}
        body = json.dumps(job).encode()
        await cases.raw("escapes of astral characters", "M0-W-1300/body-size", "accept", "value", body, name="prompt")


@repeated(without=["temperature", "top_p", "top_k", "repetition_penalty", "min_p", "stop"])
@requirement(
    "M0-W-1300/job-id-reuse",
    "M0-W-1300/deadline-header",
    "M0-W-1300/correlation-header",
    "M0-W-1300/optional-defaults",
)
async def test_same_job_in_other_words(situation: Situation) -> None:
    """The defaults spelled out, a deadline, a job_id used again."""
    await other_words(situation, situation.prompt())


@requirement("M0-W-1300/optional-defaults", "M0-W-1300/deadline-header")
@launch("dice")
async def test_same_throw_in_other_words(situation: Situation) -> None:
    """The same where every token is drawn, so that another default for sampling shows."""
    await other_words(situation, "throw")


async def other_words(situation: Situation, prompt: str) -> None:
    """One seeded job in different requests."""
    plain: dict[str, Any] = {**NUMBERS, "prompt": prompt, "max_tokens": situation.pace.shorter(40, 12, 2.0), "seed": 11}
    await situation.execute("plain", **plain)
    defaults: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "stop": []}
    await situation.execute("spelled out", **{**plain, **defaults})
    for deadline in ("1000000000000", "4000000000000", "2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "soon"):
        await situation.execute("with a deadline", headers=[("X-Deadline", deadline)], **plain)
    await situation.execute("plain", **plain)
    identity = "6d3c1c3e-4f0e-4b52-9c0e-3a1d8f9b7c55"
    await situation.execute("with a correlation id", headers=[("X-Correlation-Id", identity)], **plain)
    first = situation.start("first use", prompt=prompt, max_tokens=3)
    await first.done()
    await situation.execute("second use", prompt=prompt, max_tokens=3, job_id=first.job_id)


USUAL = {"temperature": "1.5", "top_p": "0.875", "repetition_penalty": "1.25", "top_k": "6"}
SPELLINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "temperature": (
        ("1.5", "15e-1"), ("1.5", "0.15E+1"), ("1.5", "1.50000000000000000000"), ("1.0", "1"), ("1.0", "1e0"),
        ("1.0", "10E-1"), ("2.0", "2"), ("0.0", "0"), ("0.0", "-0"), ("0.0", "-0.0"), ("0.0", "0e7"),
    ),
    "top_p": (("0.875", "875e-3"), ("0.875", "8.75E-01"), ("1.0", "1"), ("0.0", "0"), ("1.0", "1E0")),
    "repetition_penalty": (("1.25", "125e-2"), ("1.25", "1.25000"), ("1.0", "1"), ("2.0", "2"), ("2.0", "2e+0")),
}  # fmt: skip
"""By field: a number in its usual spelling, and another of the same number."""


@requirement("M0-W-1300/number-spellings")
@launch("dice")
async def test_numbers_in_other_spellings(situation: Situation) -> None:
    """Integers for fractions, exponents, many digits, negative zeros: each as the usual spelling's twin."""
    written = iter(range(1000))

    async def send(label: str, spelled: dict[str, str]) -> None:
        numbers = ", ".join(f'"{name}": {text}' for name, text in spelled.items())
        body = f'{{"job_id": "spelled {next(written)}", "prompt": "throw", "max_tokens": 24, "seed": 11, {numbers}}}'
        await situation.post(label, "/execute", body=body.encode(), headers=[JSON_TYPE])

    for name, pairs in SPELLINGS.items():
        for usual in dict.fromkeys(usual for usual, _ in pairs):
            for _ in range(2):
                await send(f"usual {name} {usual}", {**USUAL, name: usual})
        for usual, other in pairs:
            await send(f"spelled {name} {usual} as {other}", {**USUAL, name: other})


@requirement("M0-W-1300/streams")
async def test_forms_of_requests(situation: Situation) -> None:
    """One short job in each form that JSON and HTTP allow: spellings of numbers, headers, content types, framing."""
    await unserved_forms(situation)


async def unserved_forms(situation: Situation) -> frozenset[tuple[str, str]]:
    """The forms in which this worker does not take a job; asked once a run, and then known."""
    known = situation.pace.unserved
    if known is None:
        unserved = set()
        for dimension in (*WRITTEN, "extra", "job-id"):
            for form in FORMS[dimension]:
                situation.variation = only(dimension, form)
                live = situation.start(f"form: {dimension}={form}", max_tokens=2, temperature=0.0)
                if (await live.done()).exchange.status != 200 and form not in {"as-is", "none"}:
                    unserved.add((dimension, form))
        situation.variation = None
        known = situation.pace.unserved = frozenset(unserved)
    return known
