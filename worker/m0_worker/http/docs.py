"""GET /docs and /openapi.json: the description of the worker, for people and for tools.

The page is plain HTML made here: FastAPI's own loads its scripts from another host.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h2{margin-top:2.5rem;border-top:1px solid #ccc;padding-top:1rem}code{background:#f3f3f3;padding:0 .2em}
table{border-collapse:collapse;width:100%;margin:.5rem 0}th,td{text-align:left;vertical-align:top;padding:.25rem .5rem;
border-bottom:1px solid #ddd}caption{text-align:left;font-weight:600;padding:.25rem .5rem}pre{white-space:pre-wrap}"""
_LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} items",
    "format": "{}",
    "const": "always {}",
}


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words: its type and its limits."""
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    name = "one of " + ", ".join(map(str, schema["enum"])) if "enum" in schema else str(schema.get("type", "any"))
    if "items" in schema:
        name += f" of ({_type(schema['items'])})"
    limits = [words.format(schema[key]) for key, words in _LIMITS.items() if key in schema]
    return ", ".join([name, *limits])


def _text(markdown: str) -> str:
    """Escaped text in which `code` is code."""
    return "".join(
        f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(escape(markdown).split("`"))
    )


def _fields(name: str, schema: dict[str, Any]) -> Iterator[str]:
    required = set(schema.get("required", ()))
    yield f'<table id="{escape(name)}"><caption>{escape(name)}: {_text(schema.get("description", ""))}</caption>'
    yield "<tr><th>field</th><th>type and limits</th><th>default</th><th></th></tr>"
    for field, each in schema.get("properties", {}).items():
        default = "required" if field in required else json.dumps(each["default"]) if "default" in each else ""
        cells = (
            f"<code>{escape(field)}</code>",
            escape(_type(each)),
            escape(default),
            _text(each.get("description", "")),
        )
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</table>"


def _contents(content: dict[str, Any]) -> str:
    """What a body holds, with links to its models."""
    told = []
    for kind, media in content.items():
        names = sorted(set(_references(media)))
        links = ", ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in names)
        told.append(f"<code>{escape(kind)}</code>" + (f": {links}" if links else ""))
    return "; ".join(told) or "no body"


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def _operation(method: str, path: str, operation: dict[str, Any], shared: list[dict[str, Any]]) -> Iterator[str]:
    yield f"<h2><code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}</h2>"
    yield f"<p>{_text(operation.get('description', ''))}</p>"
    if "requestBody" in operation:
        yield f"<p>Body: {_contents(operation['requestBody']['content'])}</p>"
    for header in (*operation.get("parameters", ()), *shared):
        yield f"<p>Header <code>{escape(header['name'])}</code>: {_text(header.get('description', ''))}</p>"
    yield "<table><tr><th>status</th><th>when</th><th>body</th></tr>"
    for status, answer in operation["responses"].items():
        body = _contents(answer.get("content", {}))
        yield f"<tr><td>{status}</td><td>{_text(answer['description'])}</td><td>{body}</td></tr>"
    yield "</table>"


def page(schema: dict[str, Any]) -> str:
    """The description as HTML, without a script and without anything from elsewhere."""
    parts = [f"<h1>{escape(schema['info']['title'])}</h1>"]
    parts += [f"<p>{_text(each)}</p>" for each in schema["info"]["description"].split("\n\n")]
    parts.append('<p>For tools: <a href="/openapi.json">/openapi.json</a>.</p>')
    for path, operations in schema["paths"].items():
        shared = operations.get("parameters", [])
        for method, operation in operations.items():
            if method not in {"parameters", "head"}:
                parts += _operation(method, path, operation, shared)
    parts.append("<h2>Bodies and events</h2>")
    for name, model in schema["components"]["schemas"].items():
        parts += _fields(name, model)
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>M0 worker</title><style>{_STYLE}</style>'
    return f"{head}</head><body>{''.join(parts)}</body></html>"


def router(schema: Callable[[], dict[str, Any]]) -> APIRouter:
    """Both documents; `schema` makes the one from which the other is made."""
    routes = APIRouter(include_in_schema=False)

    @routes.head("/openapi.json")
    @routes.get("/openapi.json")
    async def openapi() -> JSONResponse:
        return JSONResponse(schema())

    @routes.head("/docs")
    @routes.get("/docs")
    async def docs() -> HTMLResponse:
        return HTMLResponse(
            page(schema()), headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        )

    return routes
