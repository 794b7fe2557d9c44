"""/openapi.json and /docs say what the worker does; Schemathesis asks the rest (test_schemathesis.py)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from m0_worker.http.models import EVENTS, Health

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_models.probes import Probe
    from worker_process import Worker

ERRORS = {
    ("post", "/execute"): {"400", "403", "408", "413", "415", "500", "503"},
    ("post", "/cancel"): {"400", "403", "408", "413", "415", "500", "503"},
    ("post", "/shutdown"): {"400", "403", "408", "413", "415", "500", "503"},
    ("get", "/health"): {"403", "500"},
    ("get", "/metrics"): {"403", "500"},
}


@pytest.fixture
def description(worker: Worker) -> dict[str, Any]:
    return worker.request("GET", "/openapi.json").json


def operations(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield method, path, operation


def strings(node: Any) -> Iterator[str]:
    """Every name and text of a document."""
    if isinstance(node, dict):
        yield from node
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from strings(each)
    elif isinstance(node, str):
        yield node


def fields(description: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = description["components"]["schemas"]["ExecuteRequest"]["properties"]
    return properties


def test_each_operation_has_its_answers_and_m0s_error_body(description: dict[str, Any]) -> None:
    found = {}
    for method, path, operation in operations(description):
        answers = operation["responses"]
        if method != "head":
            found[method, path] = {status for status in answers if status >= "400"}
            for status in found[method, path]:
                assert answers[status]["content"] == {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Error"}}
                }
        assert all("X-Correlation-ID" in answer["headers"] for answer in answers.values())
    assert found == ERRORS
    elsewhere = {"NotFound", "MethodNotAllowed", "NotHttp", "HeadTooSlow", "TargetTooLong", "HeadTooLarge", "Crowded"}
    assert elsewhere == set(description["components"]["responses"])


def test_nothing_is_described_that_never_happens(description: dict[str, Any]) -> None:
    told = set(strings(description))
    assert told.isdisjoint({"422", "HTTPValidationError", "ValidationError", "detail"})


def test_every_reference_leads_somewhere(description: dict[str, Any]) -> None:
    references = {each for each in strings(description) if each.startswith("#/")}
    assert "#/components/schemas/FieldError" in references
    for reference in references:
        node: Any = description
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_limits_are_those_of_the_model_and_the_command_line(launch: Any, dice: Probe) -> None:
    worker = launch("--max-tokens-out", "77", "--max-tokens-in", "55", model=dice.path)
    described = fields(worker.request("GET", "/openapi.json").json)
    assert (described["max_tokens"]["maximum"], described["max_tokens"]["default"]) == (77, 77)
    assert described["top_k"]["maximum"] == worker.health()["vocab_size"]
    assert "at most 55 tokens" in described["prompt"]["description"]


@pytest.mark.parametrize(
    "field", ["max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"]
)
def test_each_limit_is_where_it_is_said_to_be(worker: Worker, description: dict[str, Any], field: str) -> None:
    described = fields(description)[field]
    step = 1 if described["type"] == "integer" else 1e-9
    for good in (described["minimum"], described["maximum"]):
        assert worker.run(**{"max_tokens": 1, field: good}).last["tokens_out"] > 0
    for bad in (described["minimum"] - step, described["maximum"] + step):
        answer = worker.request("POST", "/execute", {"job_id": "a", "prompt": "*", field: bad})
        assert [error["field"] for error in answer.json["errors"]] == [field]


def test_a_stop_list_takes_as_many_as_it_says(worker: Worker, description: dict[str, Any]) -> None:
    most = fields(description)["stop"]["anyOf"][0]["maxItems"]
    assert worker.run(max_tokens=1, stop=["~"] * most).last["tokens_out"] == 1
    answer = worker.request("POST", "/execute", {"job_id": "a", "prompt": "*", "stop": ["~"] * most + [""]})
    found = [(error["field"], error["constraint"]) for error in answer.json["errors"]]
    assert found == [("stop", f"max_count({most})"), (f"stop[{most}]", "non_empty")]


def test_every_event_is_as_described(worker: Worker, script: Probe, description: dict[str, Any]) -> None:
    media = description["paths"]["/execute"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    described = {
        each["properties"]["event"]["const"]: each["properties"]["data"]["contentSchema"]
        for each in media["itemSchema"]["oneOf"]
    }
    assert list(described) == list(EVENTS) == ["started", "token", "end", "error"]
    prompts = script.facts["prompts"]
    streams = [worker.run(prompts["stop"], stop=["END"]), worker.run(prompts["eos"]), worker.run(max_tokens=3)]
    cancelled = worker.stream(job_id="described", max_tokens=2048)
    cancelled.until_token(1)
    worker.request("POST", "/cancel", {"job_id": "described"})
    cancelled.all()
    seen = [event for stream in (*streams, cancelled) for event in stream.events]
    assert {name for name, _ in seen} == set(described)
    for name, payload in seen:
        jsonschema.validate(payload, {**described[name], "components": description["components"]})
        EVENTS[name].model_validate(payload)


def test_health_is_as_described(worker: Worker, description: dict[str, Any]) -> None:
    health = worker.health()
    Health.model_validate(health)
    reference = description["paths"]["/health"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(health, {**reference, "components": description["components"]})


def test_the_page_needs_no_other_host_and_no_script(worker: Worker, description: dict[str, Any]) -> None:
    answer = worker.request("GET", "/docs")
    page = answer.body.decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert re.findall(r"(?i)<script|<link|<img|<iframe|@import|url\(|//", page.replace("<!doctype html>", "")) == []
    assert {href for href in re.findall(r'href="([^"]*)"', page) if not href.startswith("#")} == {"/openapi.json"}
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert {href[1:] for href in re.findall(r'href="(#[^"]*)"', page)} <= anchors
    for method, path, operation in operations(description):
        assert method == "head" or f"<code>{method.upper()} {path}</code> {operation['summary']}" in page
    for name, each in fields(description).items():
        assert f"<td><code>{name}</code></td>" in page
        assert "maximum" not in each or f"≤ {each['maximum']}" in page
