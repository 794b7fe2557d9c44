"""Jobs as a whole: their length, their end, jobs that meet. Judges: `length.py`, `concurrency.py`, `alphabet.py`."""

from __future__ import annotations

import asyncio

from m0_conformance.judges.concurrency import overlap
from m0_conformance.situation import OMIT, Situation, launch, requirement

LONG = 2048
POLLS = 40
MEETING = 300
"""Tokens of a job that another one is to meet."""
ATTEMPTS = 6
"""To let two jobs meet: a fast worker on a busy machine may be ready with the first before the second is sent."""
RETRIES = 40
BATTERY = (
    "tab\there", "two\nlines\n", "carriage\r\nreturn", "control \x01\x1b[0m\x7f", "what? why?? really?!", "?", " ",
    "Привет, мир", "你好世界", "مرحبا بالعالم", "नमस्ते दुनिया", "e\u0301 combining", "👨‍👩‍👧 🇩🇪 😀",
    "\u200b\u2028\ufeff", "\n",
    "<|endoftext|>", "<|im_start|>user\nhi<|im_end|>", "<s>[INST] hi [/INST]</s>", "<0x0A>",
    '{"a": [1]}', "\\u0041 \\n",
    "a" * 300, "1234567890" * 20, "\x00", "\U0010ffff",
)  # fmt: skip


@requirement("M0-W-1300/max-tokens-bound", "M0-W-1300/max-tokens-prefix", "M0-SYS-6.3.1/valid-job-ends")
async def test_lengths(situation: Situation) -> None:
    """Greedy jobs of different lengths."""
    for count, label in ((24, "longer"), (1, "shorter"), (7, "shorter"), (23, "shorter"), (24, "longer")):
        await situation.execute(label, max_tokens=count, temperature=0.0)
    for seed in range(3):
        await situation.execute("ordinary", max_tokens=8 + seed, temperature=0.5 * seed, seed=seed)


@requirement("M0-W-1300/max-tokens-reached", "M0-W-1311/no-tokens")
@launch("script")
async def test_exact_lengths(situation: Situation) -> None:
    """A model that never ends by itself, and one that ends at once."""
    for count in (1, 2, 17, 100):
        await situation.execute("endless", max_tokens=count, temperature=0.0)
    await situation.execute("ends at once", prompt=situation.prompt("empty"), max_tokens=16, temperature=0.0)


@requirement("M0-SYS-6.3.1/incremental", "M0-W-1320/while-generating", "M0-W-1300/max-tokens-default")
async def test_long_generation(situation: Situation) -> None:
    """The longest job there is, and /health again and again while it runs.

    A probe never ends by itself, so there max_tokens is left out and its default shows.
    """
    endless = situation.probe is not None
    situation.fact("endless", endless)
    live = situation.start("long", max_tokens=OMIT if endless else LONG, temperature=0.0)
    if not await live.tokens(2):
        situation.not_exercised("the long job yielded no two tokens")
    for _ in range(POLLS):
        if live.live.ended:
            break
        await situation.get("meanwhile", "/health")
        await asyncio.sleep(0.02)
    if not await live.terminal(60.0 * situation.scale):
        await live.hang_up()


@requirement("M0-W-1301/no-interleave", "M0-W-1301/second-answered", "M0-W-1301/solo-equal")
async def test_two_jobs(situation: Situation) -> None:
    """A second job while the first runs, against each alone."""
    await two_jobs(situation, situation.prompt(), situation.prompt("utf8"))


@requirement("M0-W-1301/solo-equal")
@launch("memory")
async def test_two_jobs_with_memory(situation: Situation) -> None:
    """The same on the probe that says what its cache holds."""
    await two_jobs(situation, "a" * 40, "b" * 40)


async def two_jobs(situation: Situation, first: str, second: str) -> None:
    """`first` twice alone, `second` twice alone, then overlapping."""
    for _ in range(2):
        await situation.execute("first alone", prompt=first, max_tokens=MEETING, temperature=0.0)
        await situation.execute("second alone", prompt=second, max_tokens=30, temperature=0.0)
    for _ in range(ATTEMPTS):
        running = situation.start("running", prompt=first, max_tokens=MEETING, temperature=0.0)
        await running.tokens(3)
        waiting = situation.start("second", prompt=second, max_tokens=30, temperature=0.0)
        stream = await running.done()
        if overlap(stream, (await waiting.done()).exchange):
            break


@requirement("M0-W-1301/duplicate-active")
async def test_a_job_id_that_runs_already(situation: Situation) -> None:
    """The same job_id again, while it runs."""
    for _ in range(2):
        await situation.execute("twin alone", max_tokens=MEETING, temperature=0.0)
    for _ in range(ATTEMPTS):
        running = situation.start("running twin", max_tokens=MEETING, temperature=0.0)
        await running.tokens(3)
        twin = situation.start("twin", job_id=running.job_id, prompt=situation.prompt("eos"), max_tokens=2)
        stream = await running.done()
        if overlap(stream, (await twin.done()).exchange):
            break


@requirement("M0-W-1301/after-disconnect")
async def test_a_client_that_leaves(situation: Situation) -> None:
    """Hanging up politely and with a reset; a job after each."""
    for _ in range(2):
        await situation.execute("undisturbed", max_tokens=20, temperature=0.0)
    for reset in (False, True):
        live = situation.start("abandoned", max_tokens=1000, temperature=0.0)
        await live.tokens(3)
        await live.hang_up(reset=reset)
        for _ in range(RETRIES):  # a worker may be busy for as long as it has not noticed
            if (await situation.execute("next", max_tokens=20, temperature=0.0)).exchange.status != 503:
                break
            await asyncio.sleep(0.5)


@requirement("M0-W-1312/error-fields", "M0-W-1500/code-set", "M0-W-1510/retriable")
async def test_an_error_event(situation: Situation) -> None:
    """The one error event that every worker can be brought to: a cancelled job's."""
    live = situation.start("cancelled", max_tokens=LONG, temperature=0.0)
    await live.tokens(2)
    await situation.cancel("cancel", live.job_id)
    if not await live.terminal(10.0 * situation.scale):
        await live.hang_up()


@requirement("M0-W-1362/any-prompt", "M0-W-1362/no-internal-alphabet")
async def test_prompts_of_any_characters(situation: Situation) -> None:
    """Tabs, control characters, other scripts, the texts of special tokens; and ordinary texts."""
    for prompt in BATTERY:
        await situation.execute("battery", prompt=prompt, max_tokens=2, temperature=0.0)
    for name in ("words", "utf8"):
        await situation.execute("text", prompt=situation.prompt(name), max_tokens=24, temperature=0.0)


@requirement("M0-W-1001/model-constant")
async def test_one_model_for_life(situation: Situation) -> None:
    """Health and jobs in turn."""
    for number in range(3):
        await situation.get("identity", "/health")
        await situation.execute("job", max_tokens=2 + number, seed=number)
    await situation.get("identity", "/health")
