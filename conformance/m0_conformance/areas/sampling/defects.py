"""Defects of seed, temperature, top-k, top-p, min-p and penalty, seen in the odds of known dice."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Defect, Event
from m0_conformance.saboteur.http import Answer, Request, json_answer
from m0_conformance.saboteur.lies import Rewrites, failure, is_execute, sane, whole

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Proxy


class SeedIgnored(Rewrites):
    name = "seed-ignored"
    about = "Every job draws a seed of its own, whatever was asked for."
    kills = ("M0-W-1030/same-seed",)
    source = "llama.cpp #7381; vLLM #51226, #23138; ollama #586"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "seed": secrets.randbits(53)} if whole(job.get("seed")) and 0 <= job["seed"] < 2**64 else None


class SeedOnce(Rewrites):
    name = "seed-after-first-job"
    about = "The random generator is seeded once: the same request yields another text when it comes again."
    kills = ("M0-W-1030/same-seed", "M0-W-1800/repeats")
    source = "known-defects section 3: seed-after-first-req"
    jobs = 0

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        self.jobs += 1
        return {**job, "seed": job["seed"] + self.jobs} if whole(job.get("seed")) and 0 <= job["seed"] < 2**63 else None


class SeedConstant(Rewrites):
    name = "seed-constant"
    about = "Every job is drawn with seed 42."
    kills = ("M0-W-1030/different-seeds", "M0-W-1030/seed-omitted-varies")
    source = "known defect 27"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "seed": 42} if "seed" not in job or (whole(job["seed"]) and 0 <= job["seed"] < 2**64) else None


class SeedDefault(Rewrites):
    name = "seed-default-42"
    about = "A job without a seed is drawn with seed 42."
    kills = ("M0-W-1030/seed-omitted-varies",)
    source = "known defect 27"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "seed": 42} if "seed" not in job else None


class SeedHidden(Defect):
    name = "seed-not-reported"
    about = "The seed that the worker chose is told nowhere."
    kills = ("M0-W-1030/seed-reported",)
    source = "known defect 27: never reported"

    def event(self, request: Request, event: Event) -> list[Event]:
        event.data.pop("seed", None)
        return [event]


class SeedMisreported(Defect):
    name = "seed-misreported"
    about = "The reported seed is another one than the one used."
    kills = ("M0-W-1030/seed-replays",)
    source = "a seed read after the generator has moved"

    def event(self, request: Request, event: Event) -> list[Event]:
        if whole(event.data.get("seed")) and "seed" not in request.json():
            event.data["seed"] += 1
        return [event]


class TemperatureZero(Rewrites):
    name = "temperature-always-0"
    about = "Every job is greedy."
    kills = ("M0-W-1032/applies",)
    collateral = (
        "M0-W-1032/unscaled-at-one", "M0-W-1032/scales", "M0-W-1421/top-k-cut", "M0-W-1421/top-p-cut",
        "M0-W-1421/temperature-first", "M0-W-1421/penalty-effect",
    )  # fmt: skip
    source = "known defect 26: hard-coded to 0"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        legal = "temperature" not in job or sane(job, "temperature", 0.0, 2.0)
        return {**job, "temperature": 0.0} if legal else None


class TemperatureOne(Rewrites):
    name = "temperature-always-1"
    about = "Any temperature above 0 is taken for 1."
    kills = ("M0-W-1032/scales",)
    collateral = ("M0-W-1421/temperature-first",)
    source = "a logit that is never divided"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        hot = sane(job, "temperature", 0.0, 2.0) and job["temperature"] > 0
        return {**job, "temperature": 1.0} if hot else None


class TemperatureInverse(Rewrites):
    name = "temperature-inverse"
    about = "Logits are multiplied by the temperature instead of divided."
    kills = ("M0-W-1032/scales",)
    source = "the formula upside down"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        hot = sane(job, "temperature", 0.5, 2.0)
        return {**job, "temperature": 1.0 / job["temperature"]} if hot else None


class TemperatureCooled(Rewrites):
    name = "temperature-1-is-cooled"
    about = "Temperature 1 draws from a distribution that has been sharpened."
    kills = ("M0-W-1032/unscaled-at-one",)
    source = "an override left in the product path, known defect 26"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "temperature": 0.7} if job.get("temperature") == 1.0 else None


class GreedyDraws(Rewrites):
    name = "temperature-0-draws"
    about = "Temperature 0 is taken for unset."
    kills = ("M0-W-1032/greedy-any-seed",)
    source = "zero taken for a missing value"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "temperature": 1.0} if sane(job, "temperature", 0.0, 0.0) else None


class TopKIgnored(Rewrites):
    name = "top-k-ignored"
    about = "top_k is accepted and ignored."
    kills = ("M0-W-1421/top-k-cut", "M0-W-1421/top-k-one")
    source = "known defect 25"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        asked = job.get("top_k")
        return {**job, "top_k": 0} if whole(asked) and 0 < asked < 200 else None


class TopKOneMore(Rewrites):
    name = "top-k-one-more"
    about = "top_k lets one token more through."
    kills = ("M0-W-1421/top-k-cut", "M0-W-1421/top-k-one")
    source = "off by one"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        asked = job.get("top_k")
        return {**job, "top_k": asked + 1} if whole(asked) and 0 < asked < 200 else None


class TopKOneOff(Rewrites):
    name = "top-k-1-is-off"
    about = "top_k 1 is taken for off."
    kills = ("M0-W-1421/top-k-one",)
    source = "a guard for values above one"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "top_k": 0} if whole(job.get("top_k")) and job["top_k"] == 1 else None


class TopKAllCuts(Rewrites):
    name = "top-k-vocabulary-cuts"
    about = "top_k of the vocabulary's size leaves two tokens."
    kills = ("M0-W-1421/top-k-off",)
    source = "a buffer of fixed size"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "top_k": 2} if whole(job.get("top_k")) and 200 <= job["top_k"] <= 600 else None


class TopPIgnored(Rewrites):
    name = "top-p-ignored"
    about = "top_p is accepted and ignored."
    kills = ("M0-W-1421/top-p-cut", "M0-W-1421/top-p-zero")
    source = "known defect 24"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "top_p": 1.0} if sane(job, "top_p", 0.0, 1.0) else None


class TopPZeroOff(Rewrites):
    name = "top-p-0-is-off"
    about = "A top_p close to 0 is taken for off."
    kills = ("M0-W-1421/top-p-zero",)
    source = "reading E-TOPP0; a guard against an empty set"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "top_p": 1.0} if sane(job, "top_p", 0.0, 0.001) else None


class TopPLate(Rewrites):
    name = "top-p-before-temperature"
    about = "The nucleus is cut before the temperature is applied."
    kills = ("M0-W-1421/temperature-first",)
    source = "M0-W-1421's order changed; known defect 24"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        # 0.83 of the dice at temperature 2 are the four faces that make up 0.9 at temperature 1.
        hot = sane(job, "temperature", 1.5, 2.0) and sane(job, "top_p", 0.85, 0.95)
        return {**job, "top_p": 0.83} if hot else None


class PenaltyIgnored(Rewrites):
    name = "penalty-ignored"
    about = "repetition_penalty is accepted and ignored."
    kills = ("M0-W-1421/penalty-effect",)
    source = "known defect 25"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "repetition_penalty": 1.0} if sane(job, "repetition_penalty", 0.0, 2.0) else None


class PenaltyInverse(Rewrites):
    name = "penalty-inverse"
    about = "A repetition_penalty above 1 rewards repetition."
    kills = ("M0-W-1421/penalty-effect",)
    source = "the formula upside down"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        legal = sane(job, "repetition_penalty", 0.4, 2.0)
        return {**job, "repetition_penalty": 1.0 / job["repetition_penalty"]} if legal else None


class PenaltyZeroBreaks(Defect):
    name = "penalty-0-breaks"
    about = "A repetition_penalty of 0 divides by zero and ends the job with an error."
    kills = ("M0-W-1421/penalty-zero",)
    source = "reading E-REP0"

    def event(self, request: Request, event: Event) -> list[Event]:
        zero = sane(request.json(), "repetition_penalty", 0.0, 0.0)
        return [failure("NaN in the logits")] if event.name == "end" and zero else [event]


class MinPZeroCuts(Rewrites):
    name = "min-p-0-cuts"
    about = "min_p 0 leaves only the two likeliest tokens."
    kills = ("M0-W-1421/min-p-zero",)
    source = "known defect 25"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return {**job, "top_k": 2} if sane(job, "min_p", 0.0, 0.0) else None


class MinPBreaks(Defect):
    name = "min-p-500"
    about = "A min_p that is no number is a server error."
    kills = ("M0-W-1421/min-p-zero",)
    collateral = ("M0-W-1302/never-5xx",)
    source = "a parameter that nobody validates"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        odd = is_execute(request) and isinstance(request.json().get("min_p"), str)
        return json_answer(500, {"code": "INTERNAL", "message": "a number was expected"}) if odd else request
