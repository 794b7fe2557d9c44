"""POST /execute's body: every limit from both sides, every kind of bad input. Judges: `limits.py`, `validation.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from m0_conformance.situation import OMIT, Request, Situation, launch, requirement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m0_conformance.wire.transcript import Json

JSON_TYPE = ("Content-Type", "application/json")
FACE = "\U0001f600"
LONGEST = 32768
ASTRAL = (LONGEST, LONGEST // 2 + 1, LONGEST // 2, LONGEST // 4 + 1, LONGEST // 4)
"""Characters of two UTF-16 units and four UTF-8 bytes: just above and at the limit in units, then in bytes."""
STARTS_S = 20.0
"""A legal job of unknown length is left as soon as it has ended or shown that it was accepted."""


@dataclass
class Cases:
    """Sends variants of a job and notes what is expected of each (see `judges/answers.py`)."""

    situation: Situation
    noted: dict[str, Json] = field(default_factory=dict)

    def expect(self, label: str, clause: str, want: str, kind: str, name: str = "") -> None:
        """Note an expectation."""
        self.noted[label] = {"clause": clause, "want": want, "kind": kind, "field": name}
        self.situation.fact("cases", self.noted)

    async def job(
        self, label: str, clause: str, want: str, *, kind: str = "value", name: str = "", **fields: Any
    ) -> None:
        """One job with these fields; one that is accepted is left after its first token."""
        self.expect(label, clause, want, kind, name)
        fields.setdefault("max_tokens", 1)
        fields.setdefault("prompt", self.situation.prompt("eos"))
        if "job_id" in fields or fields["prompt"] is OMIT:  # `start` would put its own in the place of a missing one
            body = {key: value for key, value in {"job_id": "by hand", **fields}.items() if value is not OMIT}
            await self.situation.post(label, "/execute", body)
            return
        live = self.situation.start(label, **fields)
        if await live.live.wait(lambda: live.count("token", "end", "error") > 0, STARTS_S * self.situation.scale):
            if not await live.terminal(1.0):
                await live.hang_up()
                await self.situation.cancel("tidy up", live.job_id)
        else:
            await live.done()

    async def raw(self, label: str, clause: str, want: str, kind: str, body: bytes, *, name: str = "") -> None:
        """One POST /execute with these bytes."""
        self.expect(label, clause, want, kind, name)
        await self.situation.post(label, "/execute", body=body, headers=[JSON_TYPE])

    async def sides(self, name: str, clause: str, *, legal: Sequence[Any] = (), illegal: Sequence[Any] = ()) -> None:
        """Values of one field on both sides of its limits."""
        for value in legal:
            await self.job(f"{name} {value}", clause, "accept", name=name, **{name: value})
        for value in illegal:
            await self.job(f"{name} {value}", clause, "refuse", name=name, **{name: value})


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
        illegal = (-0.01, -1e-9, top + 1e-9, top + 0.01, 1e300)
        await cases.sides(name, clause, legal=(0.0, top), illegal=illegal)
    await cases.sides("top_k", "M0-W-1300/top-k-range", legal=(0, 1), illegal=(-1, 1.5))
    size = situation.health_identity.get("vocab_size")
    if isinstance(size, int) and size > 1:
        await cases.sides("top_k", "M0-W-1300/top-k-range", legal=(size,))
        await cases.sides("top_k", "M0-W-1300/top-k-vocabulary", illegal=(size + 1, 2**31))
    await cases.sides("seed", "M0-W-1300/seed-range", legal=(0, 2**53 + 1, 2**64 - 1), illegal=(-1, 1.5, 2**64))


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
    await cases.job("nothing but the two required fields", "M0-W-1300/minimal-body", "accept", max_tokens=OMIT)


@requirement("M0-W-1300/prompt-max", "M0-W-1300/prompt-unit", "M0-W-1300/body-size")
async def test_longest_prompt(situation: Situation) -> None:
    """32,768 characters and one more; the same of four bytes each; and written with escapes only.

    A model that is not ours may lack the context, so texts are tried that most vocabularies hold in few tokens.
    """
    cases = Cases(situation)
    probe = situation.probe
    if probe is not None and probe.get("kind") == "script":
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
        body = json.dumps({"job_id": label, "prompt": FACE * count, "max_tokens": 1}, ensure_ascii=False).encode()
        await cases.raw(label, "M0-W-1300/prompt-unit", "accept", "value", body, name="prompt")
        if situation.recording.labelled(label)[0].status == 200:
            served = count
            break
    escaped = "".join(f"\\u{ord(char):04x}" for char in plain)
    body = f'{{"job_id": "escaped", "max_tokens": 1, "prompt": "{escaped}"}}'.encode()
    await cases.raw("196 kB of escapes", "M0-W-1300/body-size", "accept", "value", body, name="prompt")
    if served > LONGEST // 2:
        body = json.dumps({"job_id": "escaped", "prompt": FACE * served, "max_tokens": 1}).encode()
        await cases.raw("escapes of astral characters", "M0-W-1300/body-size", "accept", "value", body, name="prompt")


WRONG_TYPES: tuple[tuple[str, Any], ...] = (
    ("job_id", 7), ("job_id", ["a"]), ("prompt", 7), ("prompt", {"text": "a"}), ("max_tokens", "5"),
    ("max_tokens", True), ("max_tokens", [5]), ("temperature", "0.5"), ("temperature", False), ("top_p", "1"),
    ("top_p", {}), ("top_k", "5"),
    ("top_k", True), ("repetition_penalty", "1.0"), ("stop", {"a": 1}), ("stop", 3), ("stop", [1]), ("seed", "1"),
    ("seed", True),
)  # fmt: skip
NO_OBJECT = {
    "an empty body": b"",
    "a cut body": b'{"job_id": "cut", "prom',
    "an array": b'[{"job_id": "a", "prompt": "b"}]',
    "a bare text": b'"prompt"',
    "a bare number": b"42",
    "null": b"null",
    "no JSON": b"job_id=a&prompt=b",
    "two objects": b'{"job_id": "a", "prompt": "b"} {}',
    "bytes that are no UTF-8": b'{"job_id": "a", "prompt": "\xff\xfe"}',
}
NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")


def with_raw(name: str, value: str) -> bytes:
    """A job's body with a value that no JSON writer writes."""
    return f'{{"job_id": "raw", "prompt": "a", "{name}": {value}}}'.encode()


def hostile(prompt: str) -> dict[str, tuple[bytes, tuple[str, str] | None]]:
    """Inputs that may be refused or served, but must be answered: name → (body, content type)."""
    fine = {"job_id": "hostile", "prompt": prompt, "max_tokens": 1}
    plain = json.dumps(fine).encode()

    def plus(text: str) -> bytes:
        return plain[:-1] + f", {text}}}".encode()

    deep = 10_000
    return {
        "duplicate keys": (plus('"max_tokens": 1, "prompt": "a"'), JSON_TYPE),
        "a lone surrogate in the prompt": (b'{"job_id": "a", "max_tokens": 1, "prompt": "\\ud800"}', JSON_TYPE),
        "a lone surrogate in the job_id": (b'{"job_id": "\\udfff", "max_tokens": 1, "prompt": "a"}', JSON_TYPE),
        "a lone surrogate in a stop string": (plus('"stop": ["\\ud83d"]'), JSON_TYPE),
        "nested arrays": (b"[" * deep + b"]" * deep, JSON_TYPE),
        "nested objects": (plus('"extra": ' + '{"a":' * deep + "1" + "}" * deep), JSON_TYPE),
        "nested arrays without end": (b"[" * deep, JSON_TYPE),
        "a megabyte of text": (plus('"extra": "' + "x" * 1_000_000 + '"'), JSON_TYPE),
        "a megabyte of zeros": (b"\0" * 1_000_000, JSON_TYPE),
        "a number of 5000 digits": (plus('"max_tokens": ' + "9" * 5000), JSON_TYPE),
        "an exponent of 20 digits": (plus('"temperature": 1e' + "9" * 20), JSON_TYPE),
        "a bare stop string": (plus('"stop": "x"'), JSON_TYPE),
        "nulls for options": (plus('"stop": null, "seed": null, "temperature": null, "top_k": null'), JSON_TYPE),
        "a NUL in the job_id": (plain.replace(b'"hostile"', b'"a\\u0000b"'), JSON_TYPE),
        "a job_id of 100 kB": (plain.replace(b'"hostile"', b'"' + b"j" * 100_000 + b'"'), JSON_TYPE),
        "text/plain": (plain, ("Content-Type", "text/plain")),
        "a form's content type": (plain, ("Content-Type", "application/x-www-form-urlencoded")),
        "a broken content type": (plain, ("Content-Type", ";;=,")),
        "another charset": (plain, ("Content-Type", "application/json; charset=utf-16")),
        "no content type": (plain, None),
    }


@requirement(
    "M0-W-1302/wrong-types",
    "M0-W-1302/malformed-json",
    "M0-W-1302/non-finite",
    "M0-W-1302/names-field",
    "M0-W-1302/error-json",
    "M0-W-1302/never-5xx",
    "M0-W-1302/unknown-field",
    "M0-W-1302/next-unaffected",
)
async def test_bad_input(situation: Situation) -> None:
    """Wrong types, broken JSON, no numbers, hostile bodies; a greedy job before them all, and one after."""
    cases = Cases(situation)
    for _ in range(2):
        await situation.execute("before", max_tokens=12, temperature=0.0, seed=3)
    for number, (name, value) in enumerate(WRONG_TYPES):
        label = f"{name} of another type, {number}"
        await cases.job(label, "M0-W-1302/wrong-types", "refuse", kind="type", name=name, **{name: value})
    for label, body in NO_OBJECT.items():
        await cases.raw(label, "M0-W-1302/malformed-json", "refuse", "body", body)
    for name in ("temperature", "top_p", "repetition_penalty"):
        for value in NO_NUMBERS:
            label = f"{name} {value}"
            await cases.raw(label, "M0-W-1302/non-finite", "refuse", "number", with_raw(name, value))
    for label, (body, content_type) in hostile(situation.prompt("eos")).items():
        cases.expect(label, "M0-W-1302/never-5xx", "any", "hostile")
        headers = [content_type] if content_type is not None else []
        await situation.post(label, "/execute", body=body, headers=headers)
    await situation.execute("unknown field", max_tokens=2, temperature=0.0, lighthouse={"keeper": [1, None]}, n=3)
    await situation.execute("after", max_tokens=12, temperature=0.0, seed=3)


@requirement("M0-W-1302/wrong-method", "M0-W-1302/unknown-path", "M0-W-1001/no-load-route", "M0-W-1302/never-5xx")
async def test_routes(situation: Situation) -> None:
    """Methods and paths that M0 does not have, and likely routes to another model."""
    for method, path in (
        ("GET", "/execute"), ("PUT", "/execute"), ("DELETE", "/execute"), ("PATCH", "/execute"), ("POST", "/health"),
        ("DELETE", "/health"), ("GET", "/cancel"), ("PUT", "/cancel"),
    ):  # fmt: skip
        await situation.send("wrong method", Request(method, path), within=15.0)
    for method, path in (("GET", "/no-such-path"), ("POST", "/no-such-path"), ("GET", "/execute/lighthouse/keeper")):
        await situation.send("unknown path", Request(method, path), within=15.0)
    model = {"model": "other.gguf", "path": "other.gguf"}
    for path in ("/load", "/unload", "/model", "/models", "/models/load", "/model/switch", "/reload", "/v1/models"):
        await situation.post("load route", path, model, within=15.0)
    cases = Cases(situation)
    no_length = b"POST /execute HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"
    for number, head in enumerate((b"GET /\0 HTTP/1.1\r\n\r\n", no_length)):
        cases.expect(f"broken request {number}", "M0-W-1302/never-5xx", "any", "protocol")
        await situation.send(f"broken request {number}", Request("RAW", "/", raw=head, half_close=True), within=15.0)


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
    plain: dict[str, Any] = {"prompt": prompt, "max_tokens": 40, "seed": 11}
    await situation.execute("plain", **plain)
    defaults: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "stop": []}
    await situation.execute("spelled out", **plain, **defaults)
    for deadline in ("1000000000000", "4000000000000", "2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "soon"):
        await situation.execute("with a deadline", headers=[("X-Deadline", deadline)], **plain)
    await situation.execute("plain", **plain)
    identity = "6d3c1c3e-4f0e-4b52-9c0e-3a1d8f9b7c55"
    await situation.execute("with a correlation id", headers=[("X-Correlation-Id", identity)], **plain)
    first = situation.start("first use", prompt=prompt, max_tokens=3)
    await first.done()
    await situation.execute("second use", prompt=prompt, max_tokens=3, job_id=first.job_id)


@requirement("M0-W-1360/from-metadata", "M0-W-1364/vocab-size")
@launch("script")
async def test_tokenizer_identity(situation: Situation) -> None:
    """/health of a worker with a known byte-BPE vocabulary, as long as its output has rows."""
    size = (situation.probe or {}).get("vocab")
    if size is None:
        situation.not_exercised("the model's vocabulary is not known")
    situation.fact("tokenizer", {"kind": "gguf-bpe", "sizes": [size]})
    await situation.get("identity", "/health")
