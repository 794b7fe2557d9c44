"""A stream makes a rate only if it has the tokens that were asked for."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from bench import sse

TOKEN = b'event: token\ndata: {"t":"a","i":0}\n\n'


class Streams:
    """A worker that answers every job with so many token events."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def execute(self, tokens: int, **_: object) -> httpx2.Response:
        assert tokens == sse.TOKENS
        return httpx2.Response(200, content=iter([TOKEN] * self.tokens))


def rate(tokens: int, **options: Any) -> float:
    return sse.throughput(Streams(tokens), **options)  # type: ignore[arg-type]  # all of a worker that it uses


def test_the_tokens_asked_for_make_a_rate() -> None:
    assert rate(sse.TOKENS) > 0
    assert rate(sse.TOKENS - 1, at_least=sse.TOKENS - 1) > 0


@pytest.mark.parametrize("tokens", [0, sse.TOKENS - 1, sse.TOKENS + 1])
def test_fewer_or_more_make_none(tokens: int) -> None:
    with pytest.raises(RuntimeError, match=f"{tokens} token events"):
        rate(tokens)
