"""Jobs that are accepted and whose fields mean something else: defaults, job_id, deadline, max_tokens. M0-W-1300."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.lies import Rewrites, is_execute, number, refusal, whole

if TYPE_CHECKING:
    from m0_conformance.saboteur.http import Answer, Request
    from m0_conformance.saboteur.proxy import Proxy


class OtherDefault(Rewrites):
    name = "default-temperature"
    about = "Without a temperature, 0.7 is used."
    kills = ("M0-W-1300/optional-defaults",)
    source = "another server's default"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return None if "temperature" in job else {**job, "temperature": 0.7}


class ShortDefault(Rewrites):
    name = "default-max-tokens"
    about = "Without max_tokens, 16 tokens are made."
    kills = ("M0-W-1300/max-tokens-default",)
    collateral = ("M0-SYS-6.3.1/incremental",)
    source = "another protocol's default"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        return None if "max_tokens" in job else {**job, "max_tokens": 16}


class DeadlineObeyed(Defect):
    name = "deadline-obeyed"
    about = "A deadline that has passed, or cannot be read, refuses the job."
    kills = ("M0-W-1300/deadline-header",)
    source = "a feature of a later milestone"

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        deadline = next((value for name, value in request.headers if name.lower() == "x-deadline"), "")
        return refusal("X-Deadline") if deadline == "soon" or deadline.startswith("2001") else request


class JobIdsForEver(Defect):
    name = "job-id-used-once"
    about = "A job_id can never be used again."
    kills = ("M0-W-1300/job-id-reuse",)
    source = "a table of jobs that is never cleaned"

    def __init__(self) -> None:
        self.seen: set[str] = set()

    async def request(self, request: Request, proxy: Proxy) -> Request | Answer:
        job = request.json().get("job_id")
        if not is_execute(request) or not isinstance(job, str):
            return request
        if job in self.seen:
            return refusal("job_id", "exists already")
        self.seen.add(job)
        return request


# ---- lengths ------------------------------------------------------------------------------------------------------


class OneTooMany(Rewrites):
    name = "one-token-too-many"
    about = "A job yields one token more than max_tokens."
    kills = ("M0-W-1300/max-tokens-bound",)
    source = "at-most in the place of less-than"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        asked = job.get("max_tokens")
        return {**job, "max_tokens": asked + 1} if whole(asked) and 1 <= asked < 2048 else None


class OneTooFew(Rewrites):
    name = "one-token-too-few"
    about = "A job yields one token less than max_tokens."
    kills = ("M0-W-1300/max-tokens-reached",)
    source = "the prompt's last token counted"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        asked = job.get("max_tokens")
        return {**job, "max_tokens": asked - 1} if whole(asked) and 1 < asked <= 2048 else None


class ColdShortJobs(Rewrites):
    name = "short-jobs-differ"
    about = "Jobs of less than ten tokens are answered by another path, and say something else."
    kills = ("M0-W-1300/max-tokens-prefix",)
    source = "a special case for short outputs"

    def rewrite(self, job: dict[str, Any]) -> dict[str, Any] | None:
        asked, prompt = job.get("max_tokens"), job.get("prompt")
        short = whole(asked) and 1 <= asked < 10 and number(job.get("temperature")) and isinstance(prompt, str)
        return {**job, "prompt": "#"} if short and prompt else None
