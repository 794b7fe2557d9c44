"""A check repeated under other conditions: the same requests, each written and met as its row of the plan says.

Nothing that a judge reads is changed: a legal job stays legal and an illegal one illegal, a prompt still selects the
same known text, equal jobs stay equal and different ones different. So the check's own judges judge the repeat.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from typing import TYPE_CHECKING, Any, Final, Protocol

from m0_conformance.conditions.rounds import FORMS, OF_JOBS, Row, row
from m0_conformance.recording.request import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from m0_conformance.recording.transcript import Json

LETTERS: Final = "é你\U0001f600\x01 naïve "
"""Two, three and four bytes, a control character, spaces."""
FILLERS: Final = {"medium": 12 * LETTERS, "long": LETTERS + 2048 * "x" + " ", "leading-space": " " + LETTERS}
"""What stands before a prompt whose last token decides. Of x the script probe merges 64 into one token: a long prompt
is not a slow one."""
ROOM: Final = 4096
"""Characters up to which a prompt may grow: one near M0's limit would not stay legal, or illegal."""
STOPS: Final = {
    "one": ["~never said"],
    "several": ["~this is said by nobody, ever", "\u96ea\u304c\u964d\u308b", "\U0001f98a", "~"],
}
"""Stop strings of which no probe says even the first character: a worker may hold back what could become one."""
FRACTIONS: Final = ("temperature", "top_p", "repetition_penalty", "min_p")
NUMBERS: Final[dict[str, dict[str, float]]] = {
    "temperature": {"low": 0.3, "high": 1.7},
    "top_p": {"low": 0.2, "high": 0.9},
    "top_k": {"low": 3, "high": 40},
    "repetition_penalty": {"low": 0.9, "high": 1.1},
    "min_p": {"given": 0.05},
    "seed": {"zero": 0, "low": 77, "high": 2**64 - 3},
}
SHIFTS: Final = {"as-is": 0, "zero": -11, "low": 5, "high": 2**63}
"""What is added to a seed that a check gives, modulo 2^64: equal seeds stay equal, different ones different."""
COMPANION_TOKENS: Final = 24
BEHIND: Final = {"one-behind": 1, "three-behind": 3}
AHEAD: Final = {"waited": 1, "waited-in-line": 3}
NOTICED_S: Final = 0.02
"""Until a worker has noticed that a client left."""


class Job(Protocol):
    """A job that has been sent."""

    job_id: str

    async def tokens(self, count: int) -> bool:
        """Wait for so many token events."""

    async def done(self) -> object:
        """Wait for its end."""

    async def hang_up(self) -> object:
        """Leave."""


class Driver(Protocol):
    """What a check drives a worker with (see `run.situation`)."""

    @property
    def probe(self) -> dict[str, Any] | None:
        """What the model promises."""

    def prompt(self, name: str = ...) -> str:
        """A prompt of the model."""

    def start(self, label: str, **body: Any) -> Job:
        """POST /execute."""

    async def execute(self, label: str, **fields: Any) -> object:
        """POST /execute, to its end."""

    async def post(self, label: str, path: str, value: Json) -> object:
        """POST a JSON value."""

    async def get(self, label: str, path: str) -> object:
        """GET, to its end."""

    async def cancel(self, label: str, job_id: str) -> object:
        """POST /cancel."""


def only(dimension: str, form: str) -> Variation:
    """Everything as usual but one form."""
    others = frozenset((dimension, other) for other in FORMS[dimension] if other != form)
    return Variation(0, frozenset({dimension}), free=False, unserved=others)


class Variation:
    """One round of one check.

    Args:
        round_: number of the round, from 0.
        dimensions: what the check lets vary.
        free: the model's text depends on the prompt's last token only, so prompts and sampling may vary.
        omits: the worker has defaults, so numbers may be left out.
        unserved: forms that this worker does not take.
    """

    def __init__(
        self,
        round_: int,
        dimensions: frozenset[str],
        *,
        free: bool,
        omits: bool = True,
        unserved: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self._round = round_
        self._dimensions = dimensions
        self._free = free
        self._omits = omits
        self._unserved = unserved
        self._number = 0
        self._prompts: dict[str, str] = {}
        self._last_id = ""
        self._row = row(round_, 0, dimensions=dimensions, unserved=unserved)
        self._at_work = False
        self._met = False

    # ---- before a request -------------------------------------------------------------------------------------

    async def meet(self, driver: Driver) -> None:
        """Bring about what the next request is to find: how the job before ended, and who is there."""
        if self._at_work:
            return
        self.step()
        self._met = True
        self._at_work = True
        try:
            await self._end_one(driver, self._row["after"])
            if self._row["after"] != "end":
                await driver.get("health after", "/health")
            for _ in range(AHEAD.get(self._row["company"], 0)):
                self._companion(driver)
        finally:
            self._at_work = False

    def step(self) -> None:
        """Give the next request a row of its own; one that comes while others run finds them, nothing is arranged."""
        if self._met:
            self._met = False
        elif not self._at_work:
            self._row = row(self._round, self._number, dimensions=self._dimensions, unserved=self._unserved)
            self._number += 1

    def follow(self, driver: Driver) -> None:
        """Send those who are to wait behind the job that was just sent."""
        if self._at_work:
            return
        self._at_work = True
        for _ in range(BEHIND.get(self._row["company"], 0)):
            self._companion(driver)
        self._at_work = False

    @staticmethod
    def _companion(driver: Driver) -> None:
        driver.start("company", max_tokens=COMPANION_TOKENS, temperature=0.0)

    @staticmethod
    async def _end_one(driver: Driver, how: str) -> None:
        """A job before, ended this way; "end" is how the check's own job before ended."""
        match how:
            case "cancel" | "disconnect":
                live = driver.start("before: " + how, max_tokens=512, temperature=0.0)
                await live.tokens(1)
                if how == "cancel":
                    await driver.cancel("before: cancelled", live.job_id)
                    await live.done()
                else:
                    await live.hang_up()
                    await asyncio.sleep(NOTICED_S)
            case "stop":
                stop = "before: stopped"
                await driver.execute(stop, max_tokens=24, temperature=0.0, stop=["a", "e", "i", "o"])
            case "refusal":
                await driver.post("before: refused", "/execute", {"job_id": "refused"})

    # ---- the request ------------------------------------------------------------------------------------------

    def job(self, fields: Mapping[str, Json], left_open: frozenset[str] = frozenset()) -> dict[str, Json]:
        """A job's fields, varied; those left open are spelt out only for workers without defaults."""
        if self._at_work:
            return dict(fields)
        self.step()
        told = json.dumps({name: value for name, value in fields.items() if name != "job_id"}, sort_keys=True)
        of_job = row(self._round, 0, told, self._dimensions, self._unserved)
        self._row = Row({**self._row.forms, **{name: of_job[name] for name in OF_JOBS}})
        chosen = self._row
        job: dict[str, Any] = dict(fields)
        legal_id = isinstance(job.get("job_id"), str) and len(str(job["job_id"])) > 4
        if legal_id and str(job["job_id"]).startswith("job-"):
            job["job_id"] = self._job_id(str(job["job_id"]), chosen["job-id"])
        if self._free and isinstance(job.get("prompt"), str):
            job["prompt"] = self._prompt(str(job["prompt"]), chosen["prompt"])
        if self._free:
            self._draw(job, left_open, chosen)
        seed = job.get("seed")
        if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**64 and "seed" in self._dimensions:
            job["seed"] = (seed + SHIFTS[row(self._round, 0)["seed"]]) % 2**64  # one shift for all of a round
        if chosen["extra"] == "unknown-field":
            job["lighthouse"] = {"keeper": None}
        if chosen["json"] == "lines-raw" and "job_id" in job:
            job["job_id"] = job.pop("job_id")  # last
        return job

    def _job_id(self, given: str, form: str) -> str:
        made = {
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, given)),
            "long": f"{given}-Ångström-" + "Ab9." * 20,
            "prefix": f"{self._last_id}+" if self._last_id and len(self._last_id) < 40 else given,
        }.get(form, given)
        self._last_id = made
        return made

    def _prompt(self, given: str, form: str) -> str:
        """The same prompt always becomes the same one within a round."""
        if given not in self._prompts:
            filler = FILLERS.get(form, "")
            fits = len(given) + len(filler) <= ROOM and given.strip()
            self._prompts[given] = filler + given if fits else given
        return self._prompts[given]

    def _draw(self, job: dict[str, Any], left_open: frozenset[str], chosen: Row) -> None:
        """Parameters that the check leaves open. On a model that is sure of each token they change nothing."""
        for name, values in NUMBERS.items():
            if name not in self._dimensions or (name in job and name not in left_open):
                continue
            if chosen[name] in values:
                job[name] = values[chosen[name]]
            elif self._omits and chosen[name] == "default":
                job.pop(name, None)
        if job.get("temperature") == 0 and job["temperature"] is not False:
            match chosen["temperature"]:
                case "low" | "high" as form:
                    job["temperature"] = NUMBERS["temperature"][form]
                case "default" if self._omits:
                    del job["temperature"]
        if "stop" not in job and chosen["stop"] in STOPS:
            job["stop"] = STOPS[chosen["stop"]]

    def written(self, path: str, value: Json, headers: Sequence[tuple[str, str]]) -> Request:
        """A JSON value as a request, written as the row says."""
        body = self._json(value).encode("utf-8", "surrogatepass")
        return self.framed(Request("POST", path, [("Content-Type", "application/json"), *headers], body))

    def framed(self, request: Request) -> Request:
        """The request's headers and framing as the row says."""
        if self._at_work or request.raw is not None:
            return request
        chosen = self._row
        headers = []
        for given, told in request.headers:
            name, value = given, told
            if name.lower() == "content-type":
                if value == "application/json":
                    value = {"charset": f"{value}; charset=utf-8", "capitals": "Application/JSON"}.get(
                        chosen["media"], value
                    )
                name = {"lower": name.lower(), "upper": name.upper()}.get(chosen["names"], name)
            headers.append((name, value))
        request.headers = headers
        if request.body and chosen["framing"] == "chunked":
            request.headers.append(("Transfer-Encoding", "chunked"))
        if len(request.body) > 1 and chosen["framing"] == "pieces":
            request.pauses = ((-(len(request.body) // 2), 0.015),)
        return request

    def _json(self, value: Json) -> str:
        chosen = self._row
        if self._at_work:
            return json.dumps(value)
        raw = chosen["json"] == "lines-raw"
        text = json.dumps(
            value,
            ensure_ascii=not raw or _has_lone_surrogates(value),
            indent=1 if raw else None,
            separators=(",", ":") if chosen["json"] == "compact-escapes" else None,
        )
        if chosen["json"] == "compact-escapes":
            text = re.sub(r'"job_id":"j', '"job_id":"\\\\u006a', text)
        if isinstance(value, dict):
            text = _spelled(text, value, chosen["numbers"])
        return text


def _has_lone_surrogates(value: Json) -> bool:
    return re.search(r"[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)) is not None


def _spelled(text: str, job: Mapping[str, Json], form: str) -> str:
    """The job's JSON with its numbers written in another way that means the same."""
    for name in FRACTIONS:
        value: Any = job.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        plain = json.dumps(value)
        other = plain
        match form:
            case "integer" if value == int(value) and abs(value) < 2**31:
                other = str(int(value))
            case "exponent" if "e" not in plain and plain.replace(".", "").isdigit():
                other = f"{plain}e0"
            case "many-digits" if re.fullmatch(r"\d+\.\d+", plain):
                other = plain + "0" * 14
            case "negative-zero" if value == 0:
                other = "-0.0"
        text = re.sub(rf'("{name}":\s*){re.escape(plain)}(?=[\s,}}])', lambda m, other=other: m[1] + other, text)  # type: ignore[misc]  # a default binds
    return text
