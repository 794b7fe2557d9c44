"""Causal attention over the KV cache on the CPU device (Vaswani et al. 2017; grouped queries: Ainslie et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from m0_worker.devices.cpu.cache import KvCache
    from m0_worker.devices.interface import CacheShape

    Floats = NDArray[np.float32]


# Tokens of one block of a prompt's attention: its scores stay in the cache, and keys after its last token are left out.
BLOCK = 64


def attention(
    q: Floats,
    cache: KvCache,
    layer: int,
    position: int,
    shape: CacheShape,
    *,
    scale: float,
    window: int | None,
    sinks: Floats | None,
    halves: bool = False,
    share: Callable[[Callable[[int], None], int], None] | None = None,
) -> Floats:
    """Attend from T tokens at ``position`` on to everything up to themselves: (T, n_head * head_dim), same shape.

    ``halves`` rounds queries and softmax weights to FP16, as llama.cpp's CPU code does beside an FP16 cache.
    ``share(work, n)`` calls ``work`` with every number below n, on as many threads as it likes.
    """
    n_tokens, stop = len(q), position + len(q)
    n_kv_head, head_dim = shape.n_kv_head, shape.head_dim
    start = 0 if window is None else max(0, position - window + 1)
    k, v = cache.read(layer, start, stop)  # (n_kv_head, n, head_dim)
    group = q.shape[1] // (n_kv_head * head_dim)  # query heads that share a key/value head
    if halves:
        q = q.astype(np.float16).astype(np.float32)
    elif n_tokens == 1:
        return _decode(q.reshape(n_kv_head, group, head_dim), k, v, scale, sinks)
    grouped = q.reshape(n_tokens, n_kv_head, group, head_dim)
    out = np.empty((n_tokens, n_kv_head, group, head_dim), np.float32)
    by_head = None if sinks is None else sinks.reshape(n_kv_head, group, 1, 1)

    def block(i: int) -> None:
        """One key/value head, some of the tokens: from the first key that any of them sees to the last."""
        head, begin = i % n_kv_head, i // n_kv_head * BLOCK
        end = min(n_tokens, begin + BLOCK)
        first = 0 if window is None else max(0, position + begin - window + 1 - start)
        last = position + end - start
        # (t, group, head_dim) -> (group, t, head_dim) -> (group t, head_dim): rows of one product
        rows = np.multiply(grouped[begin:end, head].swapaxes(0, 1).reshape(-1, head_dim), scale, dtype=np.float32)
        scores: Floats = (rows @ k[head, first:last].T).reshape(group, end - begin, -1)  # -> (group, t, n)
        scores += _mask(position + begin, end - begin, start + first, start + last, window)
        _softmax(scores, None if by_head is None else by_head[head])
        if halves:
            scores = scores.astype(np.float16).astype(np.float32)
        mixed = scores.reshape(-1, last - first) @ v[head, first:last]  # (group t, n) -> (group t, head_dim)
        out[begin:end, head] = mixed.reshape(group, end - begin, head_dim).swapaxes(0, 1)

    n_blocks = n_kv_head * -(-n_tokens // BLOCK)
    if share is None:
        for i in range(n_blocks):
            block(i)
    else:
        share(block, n_blocks)
    return out.reshape(n_tokens, -1)  # (T, n_kv_head, group, head_dim) -> (T, n)


def _decode(q: Floats, k: Floats, v: Floats, scale: float, sinks: Floats | None) -> Floats:
    """One token that may look at everything it is given: q (n_kv_head, group, head_dim) -> (1, n_head * head_dim)."""
    sinks = None if sinks is None else sinks.reshape(*q.shape[:2], 1)
    if len(q) == 1:  # plain matrices are cheaper to multiply than a stack of one
        scores = q[0].dot(k[0].T)[None]  # (group, head_dim) x (head_dim, n) -> (1, group, n)
        scores *= scale
        _softmax(scores, sinks)
        mixed: Floats = scores[0].dot(v[0])  # -> (group, head_dim)
    else:
        scores = np.matmul(q, k.swapaxes(1, 2))  # x (n_kv_head, head_dim, n) -> (n_kv_head, group, n)
        scores *= scale
        _softmax(scores, sinks)
        mixed = np.matmul(scores, v)  # -> (n_kv_head, group, head_dim)
    return mixed.reshape(1, -1)  # -> (1, n_head * head_dim)


def _mask(position: int, n_tokens: int, start: int, stop: int, window: int | None) -> Floats:
    """0 where a token may look, -inf elsewhere: (T, n)."""
    distance = np.arange(position, position + n_tokens)[:, None] - np.arange(start, stop)  # (T, n)
    hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return np.where(hidden, np.float32(-np.inf), np.float32(0))


def _softmax(scores: Floats, sinks: Floats | None) -> None:
    """Softmax along the last axis, in place; a sink joins the denominator and is then dropped."""
    top = np.maximum.reduce(scores, axis=-1, keepdims=True)
    if sinks is not None:
        top = np.maximum(top, sinks)
    scores -= top
    np.exp(scores, out=scores)
    total = np.add.reduce(scores, axis=-1, keepdims=True)
    if sinks is not None:
        total += np.exp(sinks - top)
    scores /= total
