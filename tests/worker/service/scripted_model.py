"""A model that says what it is told, in memory: the seam of m0_worker.generation without an engine behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from m0_worker.errors import OutOfMemory
from m0_worker.generation import Ending, Request, generate
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

EOS = 999


class ByteTokenizer:
    """Token n is byte n; 256 to 998 are words given at construction; 999 ends a generation."""

    kind = "gguf-bpe"
    vocab_size = 1000
    eog_ids = frozenset({EOS})

    def __init__(self, pieces: Sequence[bytes] = ()) -> None:
        self.pieces = tuple(pieces)

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        assert add_special in {True, False}
        assert parse_special
        return list(text.encode())

    def token_bytes(self, token: int) -> bytes:
        return self.pieces[token - 256] if 256 <= token < EOS else bytes([token]) if token < 256 else b""


@dataclass
class Usage:
    total: int = 1000


@dataclass
class ScriptedModel:
    """Says `script` whatever the prompt, then `EOS` for ever; counts what is done with it."""

    script: Sequence[int]
    n_ctx: int = 4096
    n_vocab: int = 1000
    bytes_per_position: int = 1
    capacity: int = 1 << 30
    memory: Usage = field(default_factory=Usage)
    opened: int = 0
    closed: int = 0
    launched: int = 0
    positions: int = 0
    depth: int = 1

    def kv_bytes(self, n_tokens: int) -> int:
        return n_tokens * self.bytes_per_position

    def open(
        self, n_tokens: int, sampling: SamplingParams, *, seed: int, tap: object | None = None
    ) -> ScriptedDecoding:
        assert tap is None
        assert isinstance(sampling, SamplingParams)
        assert seed >= 0
        assert 0 < n_tokens <= self.n_ctx
        if self.kv_bytes(n_tokens) > self.capacity:
            raise OutOfMemory("kv", needed=self.kv_bytes(n_tokens), available=self.capacity)
        self.opened += 1
        self.positions = n_tokens
        return ScriptedDecoding(self)


class ScriptedDecoding:
    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        self.at = -1
        self.depth = model.depth
        self.pending = 0
        self.fed = 0

    def prefill(self, tokens: Sequence[int]) -> Iterator[None]:
        assert tokens
        self.fed = len(tokens)
        yield None
        self.pending = 1

    def launch(self) -> None:
        assert self.pending < self.depth, "launched too many"
        self.pending += 1
        self.fed += 1
        self.model.launched += 1
        assert self.fed <= self.model.positions, "more positions than were asked for"

    def collect(self) -> Generator[None, None, int]:
        assert self.pending, "collected what was never launched"
        yield None
        self.pending -= 1
        self.at += 1
        return self.model.script[self.at] if self.at < len(self.model.script) else EOS

    def close(self) -> None:
        self.model.closed += 1


def request(**changes: object) -> Request:
    values: dict[str, object] = {
        "job_id": "j",
        "prompt": "p",
        "prompt_tokens": (112,),
        "max_tokens": 100,
        "sampling": SamplingParams(),
        "stop": (),
        "seed": 1,
    }
    return Request(**(values | changes))  # type: ignore[arg-type]  # parameters by name


def run(
    model: ScriptedModel, tokenizer: ByteTokenizer | None = None, kv_limit: int | None = None, **changes: object
) -> tuple[list[str], Ending]:
    steps = generate(model, tokenizer or ByteTokenizer(), request(**changes), kv_limit=kv_limit)
    texts: list[str] = []
    while True:
        try:
            text = next(steps)
        except StopIteration as finished:
            ending: Ending = finished.value
            return texts, ending
        if text is not None:
            texts.append(text)
