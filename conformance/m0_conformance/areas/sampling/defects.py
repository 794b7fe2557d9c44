"""Defects of seed, temperature, top-k, top-p, min-p and penalty, seen in the odds of known dice."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.http import Answer, Request, json_answer
from m0_conformance.saboteur.lie import on_event, on_events, on_request, rewrites
from m0_conformance.saboteur.lies import Rewrites, failure, integer, is_execute, sane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from m0_conformance.saboteur.defect import Event


@rewrites("M0-W-1030/same-seed", source="llama.cpp #7381; vLLM #51226, #23138; ollama #586")
def seed_ignored(job: dict[str, Any]) -> dict[str, Any] | None:
    """Every job draws a seed of its own, whatever was asked for."""
    return {**job, "seed": secrets.randbits(53)} if integer(job.get("seed")) and 0 <= job["seed"] < 2**64 else None


class SeedOnce(Rewrites):
    name = "seed-after-first-job"
    about = "The random generator is seeded once: the same request yields another text when it comes again."
    kills = ("M0-W-1030/same-seed", "M0-W-1800/repeats")
    source = "known-defects section 3: seed-after-first-req"
    jobs = 0

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        self.jobs += 1
        return (
            {**job, "seed": job["seed"] + self.jobs} if integer(job.get("seed")) and 0 <= job["seed"] < 2**63 else None
        )


@rewrites("M0-W-1030/different-seeds", "M0-W-1030/seed-omitted-varies", source="known defect 27")
def seed_constant(job: dict[str, Any]) -> dict[str, Any] | None:
    """Every job is drawn with seed 42."""
    return {**job, "seed": 42} if "seed" not in job or (integer(job["seed"]) and 0 <= job["seed"] < 2**64) else None


@rewrites("M0-W-1030/seed-omitted-varies", source="known defect 27")
def seed_default_42(job: dict[str, Any]) -> dict[str, Any] | None:
    """A job without a seed is drawn with seed 42."""
    return {**job, "seed": 42} if "seed" not in job else None


@on_event("M0-W-1030/seed-reported", source="known defect 27: never reported")
def seed_not_reported(event: Event) -> list[Event]:
    """The seed that the worker chose is told nowhere."""
    event.data.pop("seed", None)
    return [event]


@on_event("M0-W-1030/seed-replays", source="a seed read after the generator has moved")
def seed_misreported(request: Request, event: Event) -> list[Event]:
    """The reported seed is another one than the one used."""
    if integer(event.data.get("seed")) and "seed" not in request.json():
        event.data["seed"] += 1
    return [event]


@rewrites(
    "M0-W-1032/applies",
    collateral=(
        "M0-W-1032/unscaled-at-one",
        "M0-W-1032/scales",
        "M0-W-1421/top-k-cut",
        "M0-W-1421/top-p-cut",
        "M0-W-1421/temperature-first",
        "M0-W-1421/penalty-effect",
    ),
    source="known defect 26: hard-coded to 0",
)
def temperature_always_0(job: dict[str, Any]) -> dict[str, Any] | None:
    """Every job is greedy."""
    legal = "temperature" not in job or sane(job, "temperature", 0.0, 2.0)
    return {**job, "temperature": 0.0} if legal else None


@rewrites("M0-W-1032/scales", collateral=("M0-W-1421/temperature-first",), source="a logit that is never divided")
def temperature_always_1(job: dict[str, Any]) -> dict[str, Any] | None:
    """Any temperature above 0 is taken for 1."""
    hot = sane(job, "temperature", 0.0, 2.0) and job["temperature"] > 0
    return {**job, "temperature": 1.0} if hot else None


@rewrites("M0-W-1032/scales", source="the formula upside down")
def temperature_inverse(job: dict[str, Any]) -> dict[str, Any] | None:
    """Logits are multiplied by the temperature instead of divided."""
    hot = sane(job, "temperature", 0.5, 2.0)
    return {**job, "temperature": 1.0 / job["temperature"]} if hot else None


@rewrites("M0-W-1032/unscaled-at-one", source="an override left in the product path, known defect 26")
def temperature_1_is_cooled(job: dict[str, Any]) -> dict[str, Any] | None:
    """Temperature 1 draws from a distribution that has been sharpened."""
    return {**job, "temperature": 0.7} if job.get("temperature") == 1.0 else None


@rewrites("M0-W-1032/greedy-any-seed", source="zero taken for a missing value")
def temperature_0_draws(job: dict[str, Any]) -> dict[str, Any] | None:
    """Temperature 0 is taken for unset."""
    return {**job, "temperature": 1.0} if sane(job, "temperature", 0.0, 0.0) else None


@rewrites("M0-W-1421/top-k-cut", "M0-W-1421/top-k-one", source="known defect 25")
def top_k_ignored(job: dict[str, Any]) -> dict[str, Any] | None:
    """top_k is accepted and ignored."""
    asked = job.get("top_k")
    return {**job, "top_k": 0} if integer(asked) and 0 < asked < 200 else None


@rewrites("M0-W-1421/top-k-cut", "M0-W-1421/top-k-one", source="off by one")
def top_k_one_more(job: dict[str, Any]) -> dict[str, Any] | None:
    """top_k lets one token more through."""
    asked = job.get("top_k")
    return {**job, "top_k": asked + 1} if integer(asked) and 0 < asked < 200 else None


@rewrites("M0-W-1421/top-k-one", source="a guard for values above one")
def top_k_1_is_off(job: dict[str, Any]) -> dict[str, Any] | None:
    """top_k 1 is taken for off."""
    return {**job, "top_k": 0} if integer(job.get("top_k")) and job["top_k"] == 1 else None


@rewrites("M0-W-1421/top-k-off", source="a buffer of fixed size")
def top_k_vocabulary_cuts(job: dict[str, Any]) -> dict[str, Any] | None:
    """top_k of the vocabulary's size leaves two tokens."""
    return {**job, "top_k": 2} if integer(job.get("top_k")) and 200 <= job["top_k"] <= 600 else None


@rewrites("M0-W-1421/top-p-cut", "M0-W-1421/top-p-zero", source="known defect 24")
def top_p_ignored(job: dict[str, Any]) -> dict[str, Any] | None:
    """top_p is accepted and ignored."""
    return {**job, "top_p": 1.0} if sane(job, "top_p", 0.0, 1.0) else None


@rewrites("M0-W-1421/top-p-zero", source="reading E-TOPP0; a guard against an empty set")
def top_p_0_is_off(job: dict[str, Any]) -> dict[str, Any] | None:
    """A top_p close to 0 is taken for off."""
    return {**job, "top_p": 1.0} if sane(job, "top_p", 0.0, 0.001) else None


@rewrites("M0-W-1421/temperature-first", source="M0-W-1421's order changed; known defect 24")
def top_p_before_temperature(job: dict[str, Any]) -> dict[str, Any] | None:
    """The nucleus is cut before the temperature is applied."""
    # 0.83 of the dice at temperature 2 are the four faces that make up 0.9 at temperature 1.
    hot = sane(job, "temperature", 1.5, 2.0) and sane(job, "top_p", 0.85, 0.95)
    return {**job, "top_p": 0.83} if hot else None


@rewrites("M0-W-1421/penalty-effect", source="known defect 25")
def penalty_ignored(job: dict[str, Any]) -> dict[str, Any] | None:
    """repetition_penalty is accepted and ignored."""
    return {**job, "repetition_penalty": 1.0} if sane(job, "repetition_penalty", 0.0, 2.0) else None


@rewrites("M0-W-1421/penalty-effect", source="the formula upside down")
def penalty_inverse(job: dict[str, Any]) -> dict[str, Any] | None:
    """A repetition_penalty above 1 rewards repetition."""
    legal = sane(job, "repetition_penalty", 0.4, 2.0)
    return {**job, "repetition_penalty": 1.0 / job["repetition_penalty"]} if legal else None


@on_event("M0-W-1421/penalty-zero", source="reading E-REP0")
def penalty_0_breaks(request: Request, event: Event) -> list[Event]:
    """A repetition_penalty of 0 divides by zero and ends the job with an error."""
    zero = sane(request.json(), "repetition_penalty", 0.0, 0.0)
    return [failure("NaN in the logits")] if event.name == "end" and zero else [event]


@rewrites("M0-W-1421/min-p-zero", source="known defect 25")
def min_p_0_cuts(job: dict[str, Any]) -> dict[str, Any] | None:
    """min_p 0 leaves only the two likeliest tokens."""
    return {**job, "top_k": 2} if sane(job, "min_p", 0.0, 0.0) else None


@on_request("M0-W-1421/min-p-zero", collateral=("M0-W-1302/never-5xx",), source="a parameter that nobody validates")
def min_p_500(request: Request) -> Request | Answer:
    """A min_p that is no number is a server error."""
    odd = is_execute(request) and isinstance(request.json().get("min_p"), str)
    return json_answer(500, {"code": "INTERNAL", "message": "a number was expected"}) if odd else request


@rewrites("M0-W-1421/top-k-cut", source="one filter chosen of two")
def top_k_ignored_with_top_p(job: dict[str, Any]) -> dict[str, Any] | None:
    """top_k does nothing where top_p is given, too."""
    both = integer(job.get("top_k")) and 0 < job["top_k"] < 200 and sane(job, "top_p", 0.01, 0.9999)
    return {**job, "top_k": 0} if both else None


@rewrites("M0-W-1421/top-p-cut", source="one filter chosen of two")
def top_p_ignored_with_top_k(job: dict[str, Any]) -> dict[str, Any] | None:
    """top_p does nothing where top_k is given, too."""
    both = integer(job.get("top_k")) and 1 < job["top_k"] < 200 and sane(job, "top_p", 0.01, 0.9999)
    return {**job, "top_p": 1.0} if both else None


@rewrites("M0-W-1032/scales", collateral=("M0-W-1421/temperature-first",), source="another server's range")
def temperature_capped_at_1(job: dict[str, Any]) -> dict[str, Any] | None:
    """A temperature above 1 is taken for 1."""
    return {**job, "temperature": 1.0} if sane(job, "temperature", 1.0000001, 2.0) else None


@rewrites("M0-W-1032/scales", source="a fused kernel without a temperature")
def temperature_ignored_with_top_k(job: dict[str, Any]) -> dict[str, Any] | None:
    """Where top_k is given, temperatures above 0 are taken for 1."""
    cut = integer(job.get("top_k")) and 1 < job["top_k"] < 200 and sane(job, "temperature", 0.0, 2.0)
    return {**job, "temperature": 1.0} if cut and job["temperature"] > 0 else None


@on_events("M0-W-1030/same-seed", source="a generator that is seeded anew from the clock when its buffer is used up")
async def seed_for_64_tokens(request: Request, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """From the 65th token on, a hot job draws by another seed than the one given."""
    hot, held = sane(request.json(), "temperature", 1.0000001, 2.0), None
    async for event in events:
        if event.name != "token" or not hot or event.data["i"] < 64:
            if held is not None:
                yield held
                held = None
            yield event
        elif held is None:
            held = event
        else:
            if secrets.randbits(1):
                held.data["t"], event.data["t"] = event.data["t"], held.data["t"]
            yield held
            yield event
            held = None
