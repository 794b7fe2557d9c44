"""Checks of what bad requests are answered with: status, JSON, codes, unknown routes."""

from __future__ import annotations

import json
from typing import Any

from m0_conformance.run.cases import JSON_TYPE, Cases
from m0_conformance.run.situation import Request, Situation, repeated, requirement

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

OUT_OF_RANGE: dict[str, Any] = {
    "job_id": "", "prompt": "", "max_tokens": 2049, "temperature": 2.01, "top_p": -0.01, "top_k": -1, "seed": -1,
    "stop": [""],
}  # fmt: skip

NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")


def with_raw(form: dict[str, Any], name: str, value: str) -> bytes:
    """A job's body with a value that no JSON writer writes."""
    job = json.dumps({**form, "job_id": "raw", "prompt": "a", name: None})
    return job.replace(f'"{name}": null', f'"{name}": {value}').encode()


def hostile(form: dict[str, Any], prompt: str) -> dict[str, tuple[bytes, tuple[str, str] | None]]:
    """Inputs that may be refused or served, but must be answered: name → (body, content type)."""
    fine = {**form, "job_id": "hostile", "prompt": prompt, "max_tokens": 1}
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


@repeated()
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
            body = with_raw(situation.pace.form, name, value)
            await cases.raw(label, "M0-W-1302/non-finite", "refuse", "number", body)
    for label, (body, content_type) in hostile(situation.pace.form, situation.prompt("eos")).items():
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
        await situation.send(f"broken request {number}", Request("RAW", "/", raw=head), within=15.0)


@repeated()
@requirement(
    "M0-W-1302/status-400",
    "M0-W-1302/error-json",
    "M0-W-1302/names-field",
    "M0-W-1302/never-5xx",
    "M0-W-1500/invalid-request-code",
    "M0-W-1510/invalid-not-retriable",
)
async def test_values_out_of_range(situation: Situation) -> None:
    """A value just outside the limits of each kind of field: how it is refused, not whether."""
    cases = Cases(situation)
    for name, value in OUT_OF_RANGE.items():
        fields: dict[str, Any] = {name: value}
        await cases.job(f"{name} out of range", "M0-W-1302/status-400", "refuse", name=name, **fields)
