"""One job from prompt to last token, as a plain generator.

It yields None whenever other work may run (between prefill chunks, between layers, while a device is busy) and a string
for every generated token: the text that the token lets out, "" while a character is incomplete. It knows nothing of
HTTP and nothing of devices; `Model`, `Decoding` and `Tokenizer` say what it needs of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from m0_worker.errors import OutOfMemory
from m0_worker.http.utf8 import Utf8Buffer
from m0_worker.stopping import StopMatcher

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from m0_worker.sampling import SamplingParams


Tap: TypeAlias = Any  # what the model shows intermediate values to; only the model looks inside


class Tokenizer(Protocol):
    """What a job needs of a tokenizer."""

    vocab_size: int
    eog_ids: frozenset[int]

    @property
    def kind(self) -> str:
        """What /health calls the backend."""
        ...

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Token IDs of a string."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token as text output; empty for control tokens."""
        ...


class Decoding(Protocol):
    """One job on the device: its KV cache, sampler state and position."""

    def prefill(self, tokens: Sequence[int]) -> Iterator[None]:
        """Run the prompt; afterwards the first sampled token is pending."""
        ...

    @property
    def depth(self) -> int:
        """Tokens that may be launched and not yet collected."""
        ...

    def launch(self) -> None:
        """Line up one more step; returns at once."""
        ...

    def collect(self) -> Generator[None, None, int]:
        """Wait for the oldest token that was not collected, yielding meanwhile."""
        ...

    def close(self) -> None:
        """Free the KV cache, also in the middle of a step."""
        ...


class Memory(Protocol):
    """Bytes in use on the device."""

    @property
    def total(self) -> int:
        """Weights, KV cache and intermediates together."""
        ...


class Model(Protocol):
    """A loaded model."""

    @property
    def n_ctx(self) -> int:
        """Context length in tokens."""
        ...

    @property
    def n_vocab(self) -> int:
        """Logit rows."""
        ...

    @property
    def memory(self) -> Memory:
        """Bytes now in use."""
        ...

    def kv_bytes(self, n_tokens: int) -> int:
        """Bytes of the KV cache of a job of this many positions."""
        ...

    def open(self, n_tokens: int, sampling: SamplingParams, *, seed: int, tap: Tap | None = None) -> Decoding:
        """A job of up to `n_tokens` positions; raises OutOfMemory."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A validated POST /execute."""

    job_id: str
    prompt: str
    prompt_tokens: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...]
    seed: int


class StopReason(Enum):
    """Why a generation ended by itself."""

    MAX_TOKENS = "MAX_TOKENS"
    EOS = "EOS"
    STOP_SEQUENCE = "STOP_SEQUENCE"
    CONTEXT_LENGTH = "CONTEXT_LENGTH"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a generation ended; `stop` is the stop string that was found."""

    reason: StopReason
    stop: str | None = None


def generate(
    model: Model, tokenizer: Tokenizer, request: Request, *, kv_limit: int | None = None, tap: Tap | None = None
) -> Generator[str | None, None, Ending]:
    """Generate the answer to a request.

    Args:
        model: opened once, used by one job at a time.
        tokenizer: the model's.
        request: a validated request; its prompt leaves room for at least one token.
        kv_limit: largest KV cache in bytes, or None.
        tap: sees the model's intermediate values, or None.

    Yields:
        None: other work may run now. str: one more token, and the text it let out.

    Returns:
        Why it ended. An end-of-generation token is never yielded.

    Raises:
        OutOfMemory: the KV cache does not fit.
        DeviceError: the device failed.
        NonFiniteLogitsError: the model computed nonsense.
    """
    prompt = request.prompt_tokens
    # The last token is sampled but never fed back, so the context holds one token fewer than are written.
    room = model.n_ctx - len(prompt) + 1
    limit = min(request.max_tokens, room)
    positions = len(prompt) + limit - 1
    if kv_limit is not None and (needed := model.kv_bytes(positions)) > kv_limit:
        raise OutOfMemory("kv", needed=needed, available=kv_limit)
    decoding = model.open(positions, request.sampling, seed=request.seed, tap=tap)
    try:
        yield from decoding.prefill(prompt)
        characters, stops = Utf8Buffer(), StopMatcher(request.stop)
        token = yield from decoding.collect()
        # A token whose text is withheld by a stop string half seen is reported one token late: should the sequence end
        # there, the withheld text still belongs to it.
        owed: str | None = None
        underway = 0
        for remaining in range(limit - 1, -1, -1):
            if token in tokenizer.eog_ids:
                if owed is not None:
                    yield owed + stops.flush()
                return Ending(StopReason.EOS)
            # A CUDA device computes the next token while this one is written to the socket, and has one more lined up,
            # so that it never waits for its host.
            while underway < min(remaining, decoding.depth):
                decoding.launch()
                underway += 1
            text = stops.feed(characters.feed(tokenizer.token_bytes(token)))
            if owed is not None:
                yield owed
                owed = None
            if stops.matched is not None:
                yield text
                return Ending(StopReason.STOP_SEQUENCE, stops.matched)
            if not remaining:
                yield text + stops.flush()
                break
            if stops.holding:
                owed = text
            else:
                yield text
            token = yield from decoding.collect()
            underway -= 1
        return Ending(StopReason.MAX_TOKENS if limit == request.max_tokens else StopReason.CONTEXT_LENGTH)
    finally:
        decoding.close()
