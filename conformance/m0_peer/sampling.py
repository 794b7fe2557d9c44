"""From logits to a token, in the order of M0-W-1421.

temperature, repetition penalty over the generated tokens, top-k, top-p, min-p, then a draw; at temperature 0 argmax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m0_peer.requests import ExecuteRequest

# 0 is in range for both (M0-W-1300) and would divide by zero.
_SMALLEST: Final = 1e-6


class Sampler:
    """One job's sampling: its parameters, its random numbers, and what it has generated."""

    def __init__(self, request: ExecuteRequest) -> None:
        self._request = request
        self._random = np.random.Generator(np.random.PCG64(request.seed))  # a seed of any size, M0-W-1030
        self._seen: set[int] = set()

    def pick(self, logits: NDArray[np.float32]) -> int:
        """The next token, drawn from `logits` [n_vocab].

        Raises:
            FloatingPointError: NaN or infinity among the logits.
        """
        if not np.isfinite(logits.max()):  # a NaN anywhere makes the maximum NaN
            raise FloatingPointError("the model's logits contain NaN or infinity")
        token = self._draw(logits.astype(np.float64))
        self._seen.add(token)
        return token

    def _draw(self, scores: NDArray[np.float64]) -> int:
        r = self._request
        if r.temperature > 0.0:
            scores /= max(r.temperature, _SMALLEST)
        if r.repetition_penalty != 1.0 and self._seen:
            seen = np.fromiter(self._seen, dtype=np.intp)
            penalty, old = max(r.repetition_penalty, _SMALLEST), scores[seen]
            scores[seen] = np.where(old > 0.0, old / penalty, old * penalty)
        if r.temperature == 0.0 or r.top_k == 1 or r.top_p == 0.0:
            return int(scores.argmax())
        ids = np.arange(scores.size)
        if r.top_k or r.top_p < 1.0 or r.min_p > 0.0:
            ids = np.argsort(-scores, kind="stable")  # likeliest first, of equals the lower id
        if r.top_k:
            ids = ids[: r.top_k]
        probs = np.exp(scores[ids] - scores.max())
        probs /= probs.sum()
        if r.top_p < 1.0:  # the smallest set that reaches top_p, never empty
            probs = probs[: int(np.searchsorted(np.cumsum(probs), r.top_p)) + 1]
        if r.min_p > 0.0:
            probs = probs[probs >= r.min_p * probs[0]]
        cumulative = np.cumsum(probs)
        # To the right, so that a token of probability 0 is never drawn.
        at = int(np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        return int(ids[min(at, probs.size - 1)])
