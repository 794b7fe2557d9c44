"""Rotary embeddings on the CPU device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m0_worker.devices.interface import Rotation

    Floats = NDArray[np.float32]


class CpuRotation:
    """A rotary table, shaped so that one product with the features and one with their partners rotate all heads."""

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation
        self._n_pairs = rotation.n_rot // 2
        self._axis = -2 if rotation.pairing == "neox" else -1  # of (2, pairs) or (pairs, 2): where partners lie
        self._cos = np.empty((0, 1, 1, 1), np.float32)
        self._sin = self._cos

    def grow(self, n_positions: int) -> None:
        """Cover positions 0 to n_positions - 1."""
        have = len(self._cos)
        if n_positions <= have:
            return
        cos, sin = self._rotation.table(have, max(n_positions, 2 * have))
        # (P, pairs) -> (P, 1, 1, pairs) and (P, 1, 2, pairs), or pairs and 2 the other way round
        cos, sin = np.expand_dims(cos[:, None], self._axis), np.stack([-sin, sin], self._axis)[:, None]
        self._cos = np.concatenate([self._cos, cos]) if have else cos
        self._sin = np.concatenate([self._sin, sin]) if have else sin

    def rotate(self, x: Floats, position: int, head_dim: int) -> Floats:
        """Rotate the heads of x, (T, heads * head_dim), from ``position`` on."""
        n_tokens, n_rot = len(x), 2 * self._n_pairs
        heads = x.reshape(n_tokens, -1, head_dim)  # (T, n) -> (T, heads, head_dim)
        pair = (2, self._n_pairs) if self._axis == -2 else (self._n_pairs, 2)
        rotated = heads[..., :n_rot].reshape(n_tokens, -1, *pair)  # (T, heads, n_rot) -> (T, heads, 2, n_rot / 2)
        partner = rotated[..., ::-1, :] if self._axis == -2 else rotated[..., ::-1]
        y = rotated * self._cos[position : position + n_tokens]
        y += partner * self._sin[position : position + n_tokens]
        if n_rot == head_dim:
            return y.reshape(n_tokens, -1)  # -> (T, n)
        kept = heads[..., n_rot:]
        return np.concatenate([y.reshape(n_tokens, -1, n_rot), kept], axis=-1).reshape(n_tokens, -1)  # -> (T, n)
