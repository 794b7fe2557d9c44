"""From logits to the next token: the chain of M0-W-1421, and the random numbers that drive it.

temperature -> repetition penalty over the generated tokens -> top-k -> top-p -> min-p -> pick. With temperature 0 only
the penalty and argmax remain. Survivors stay in ascending token order, so that the inverse-CDF pick means the same on
every device: equal seeds give equal tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: the increment of SplitMix64

# A penalty of 0 is in range (M0-W-1300) but divides by zero: its limit, "repeat whatever was likely", is what is meant.
_SMALLEST_PENALTY = 1e-6
# Below this a temperature is as good as greedy, and dividing by less could overflow.
_SMALLEST_TEMPERATURE = 1e-30
# How many of the likeliest tokens top-p sorts at first: a nucleus is rarely wider.
_NUCLEUS_GUESS = 256


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """The sampling part of a request, in the ranges of M0-W-1300 (checked where the request is parsed).

    `vocab_size`: logit rows from here on are padding without a token and are never drawn; None means there are none.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    vocab_size: int | None = None

    @property
    def greedy(self) -> bool:
        """True when the likeliest token is the only candidate (readings E-TEMP0, E-TOPK1, E-TOPP0)."""
        return self.temperature == 0.0 or self.top_k == 1 or self.top_p == 0.0


class NonFiniteLogitsError(ArithmeticError):
    """The model produced NaN or +infinity where logits should be: nothing sensible can be sampled."""


def mix64(z: int) -> int:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014) on a 64-bit unsigned integer."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def stream_of(seed: int) -> int:
    """Where a seed's random numbers begin, 64 bits.

    `mix64` leaves 0 as it is, so each input is moved on first: seed 0 would draw exactly 0.0 for its first token, and
    that is the token with the lowest ID, however unlikely.
    """
    return (mix64((seed + _GOLDEN) & _MASK) + _GOLDEN) & _MASK


def uniform(seed: int, n: int) -> float:
    """The n-th random number of a seed, in [0, 1) with 53 bits; n = 0 belongs to the first generated token.

    A counter hash, not a stream: no state to carry, and a GPU computes the same number for the same (seed, n).
    """
    return (mix64((stream_of(seed) + n * _GOLDEN) & _MASK) >> 11) * 2.0**-53


def penalize(logits: NDArray[np.float64], penalty: float, history: Collection[int]) -> None:
    """Apply the repetition penalty in place: generated tokens' positive logits are divided by it, others multiplied."""
    if penalty == 1.0 or not history:
        return
    penalty = max(penalty, _SMALLEST_PENALTY)
    seen = np.fromiter(history, dtype=np.int64, count=len(history))  # duplicates assign the same value twice: harmless
    values = logits[seen]
    logits[seen] = np.where(values > 0.0, values / penalty, values * penalty)


def _candidates(logits: NDArray[np.floating], params: SamplingParams) -> NDArray[np.float64]:
    rows = logits if params.vocab_size is None else logits[: params.vocab_size]
    if not rows.max() < np.inf:  # NaN fails every comparison, so one test finds both
        raise NonFiniteLogitsError("the model's logits contain NaN or infinity")
    return rows.astype(np.float64)  # a copy: the caller's logits stay as they are


def _top_k(scores: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """Indices, ascending, of the k largest scores; among equals the lower token ID stays."""
    threshold = np.partition(scores, scores.size - k)[scores.size - k]
    above = np.flatnonzero(scores > threshold)
    level = np.flatnonzero(scores == threshold)[: k - above.size]
    return np.sort(np.concatenate((above, level)))


def _top_p(scores: NDArray[np.float64], probs: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """Indices, ascending, of the smallest set of likeliest tokens whose probability reaches top_p; never empty.

    Ranked by score, for different scores can round to one probability.
    """
    head = _NUCLEUS_GUESS
    while True:
        chosen = _top_k(scores, head) if head < probs.size else np.arange(probs.size)
        order = chosen[np.argsort(-scores[chosen], kind="stable")]
        reached = np.cumsum(probs[order]) >= top_p
        if reached[-1] or order.size == probs.size:
            count = int(np.argmax(reached)) + 1 if reached[-1] else order.size
            return np.sort(order[:count])
        head *= 8


def distribution(
    logits: NDArray[np.floating], params: SamplingParams, history: Collection[int] = ()
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens that may come next and their probabilities.

    Args:
        logits: [n_vocab], any float type; not changed.
        params: the request's sampling parameters.
        history: tokens generated so far (not the prompt's), in any order.

    Returns:
        ids [n] in ascending order and probs [n], positive, summing to 1.

    Raises:
        NonFiniteLogitsError: NaN or +infinity among the logits.
    """
    scores = _candidates(logits, params)
    if params.greedy:
        penalize(scores, params.repetition_penalty, history)
        return np.array([np.argmax(scores)], dtype=np.int64), np.ones(1)
    if params.temperature != 1.0:
        scores /= max(params.temperature, _SMALLEST_TEMPERATURE)
    penalize(scores, params.repetition_penalty, history)
    ids = np.arange(scores.size, dtype=np.int64)
    if 0 < params.top_k < scores.size:
        ids = _top_k(scores, params.top_k)
        scores = scores[ids]
    probs = np.exp(scores - scores.max())
    probs /= probs.sum()
    if params.top_p < 1.0:
        kept = _top_p(scores, probs, params.top_p)
        ids, probs = ids[kept], probs[kept]
    if params.min_p > 0.0:
        likely = probs >= params.min_p * probs.max()
        ids, probs = ids[likely], probs[likely]
    possible = probs > 0.0  # underflow and -inf logits: what cannot be drawn is no survivor
    ids, probs = ids[possible], probs[possible]
    return ids, probs / probs.sum()


def pick(ids: NDArray[np.int64], probs: NDArray[np.float64], u: float) -> int:
    """The token at u in [0, 1) of the cumulative distribution: the first whose cumulative probability exceeds u."""
    if ids.size == 1:
        return int(ids[0])
    cumulative = np.cumsum(probs)
    position = int(np.searchsorted(cumulative, u * cumulative[-1], side="right"))
    return int(ids[min(position, ids.size - 1)])  # u * total can round up to the total itself


class Sampler:
    """One job's sampling: parameters, seed and the history of what it has generated."""

    def __init__(self, params: SamplingParams, seed: int) -> None:
        self.params = params
        self.seed = seed
        self.drawn = 0
        self._history: set[int] = set()
        unpenalized = params.repetition_penalty == 1.0
        self._plain_greedy = params.greedy and unpenalized
        self._plain = unpenalized and params.top_p == 1.0 and params.min_p == 0.0 and not params.top_k

    def next(self, logits: NDArray[np.floating]) -> int:
        """Draw the next token from logits [n_vocab] and remember it.

        Raises:
            NonFiniteLogitsError: NaN or +infinity among the logits.
        """
        if self._plain_greedy:
            token = self._argmax(logits)
        elif self._plain:
            token = self._unfiltered(logits)
        else:
            ids, probs = distribution(logits, self.params, self._history)
            token = pick(ids, probs, uniform(self.seed, self.drawn))
            self._history.add(token)
        self.drawn += 1
        return token

    def _argmax(self, logits: NDArray[np.floating]) -> int:
        size = self.params.vocab_size
        rows = logits if size is None else logits[:size]
        token = int(rows.argmax())  # the first index wins; NaN counts as the largest
        if not rows[token] < np.inf:
            raise NonFiniteLogitsError("the model's logits contain NaN or infinity")
        return token

    def _unfiltered(self, logits: NDArray[np.floating]) -> int:
        """The same as `pick` from `distribution` where only the temperature is set, without building the survivors."""
        scores = _candidates(logits, self.params)
        scores -= scores.max()
        if self.params.temperature != 1.0:
            scores /= max(self.params.temperature, _SMALLEST_TEMPERATURE)
        cumulative = np.exp(scores, out=scores).cumsum()
        # Tokens of probability 0 add nothing, so searching to the right never stops at one.
        position = int(cumulative.searchsorted(uniform(self.seed, self.drawn) * cumulative[-1], side="right"))
        if position == scores.size:  # u * total can round up to the total itself
            position = int(np.flatnonzero(scores)[-1])
        return position
