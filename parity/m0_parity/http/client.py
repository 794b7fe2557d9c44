"""Asks a running worker for greedy text (M0-W-1300, M0-W-1310): the token texts, and when they came."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator


class NotServedError(RuntimeError):
    """A worker gave no whole answer; the message says what came instead."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A job that ended with `end`.

    Attributes:
        texts: `t` of each token event.
        first_s: seconds from the request to the first token; None without a token.
        total_s: seconds from the request to the terminal event.
    """

    texts: tuple[str, ...]
    first_s: float | None
    total_s: float

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.texts)


class Worker:
    """A worker at a URL.

    Every method raises NotServedError where the worker does not answer as M0 has it.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._client = httpx2.Client(timeout=timeout_s, trust_env=False)

    def health(self) -> dict[str, Any]:
        """The body of GET /health."""
        try:
            answer = self._client.get(f"{self.url}/health")
            document = answer.json()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise NotServedError(f"{self.url} does not answer: {error}") from error
        except ValueError as error:
            raise NotServedError(f"{self.url}/health is no JSON: is it an M0 worker?") from error
        if not answer.is_success or not isinstance(document, dict):
            raise NotServedError(f"{self.url}/health answers {answer.status_code}: is it an M0 worker?")
        return document

    def greedy(self, prompt: str, max_tokens: int) -> Generated:
        """The greedy continuation of a prompt, without repetition penalty."""
        job = {"job_id": str(uuid.uuid4()), "prompt": prompt, "max_tokens": max_tokens, "temperature": 0.0, "seed": 0}
        texts: list[str] = []
        first: float | None = None
        began = time.perf_counter()
        try:
            with self._client.stream("POST", f"{self.url}/execute", json=job) as answer:
                if not answer.is_success:
                    raise NotServedError(f"HTTP {answer.status_code}: {answer.read()[:300].decode(errors='replace')}")
                for event, payload in _events(answer.iter_bytes()):
                    if event == "token":
                        first = first or time.perf_counter() - began
                        texts.append(str(payload["t"]))
                    elif event == "error":
                        raise NotServedError(f"error {payload.get('code')}: {payload.get('message')}")
                    elif event == "end":
                        return Generated(tuple(texts), first, time.perf_counter() - began)
        except httpx2.HTTPError as error:
            raise NotServedError(f"{type(error).__name__}: {error}") from error
        except (ValueError, KeyError, AttributeError) as error:
            raise NotServedError(f"the stream is not M0's: {error!r}") from error
        raise NotServedError("the stream ended without a terminal event")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _events(chunks: Iterator[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Event names and payloads. Cut at bytes: a line of JSON may hold what text calls a line separator."""
    rest = b""
    for chunk in chunks:
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            if b"data" in fields:
                yield fields.get(b"event", b"").decode(), json.loads(fields[b"data"])
