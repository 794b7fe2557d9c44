"""Rotary position embeddings (Su et al. 2021) and their stretched forms: linear, YaRN, LongRoPE, llama3 factors.

Angles are computed as llama.cpp's CPU code does, by a running float32 product: at position 300 a float64 power already
differs by 1e-5 radians, a hundred times what the rest of a float32 forward pass differs by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pairing = Literal["norm", "neox"]


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN's blend of interpolated and original angles (Peng et al. 2023).

    Attributes:
        original_context: positions of the original training.
        beta_fast: rotations over the original context above which a pair keeps its angle.
        beta_slow: rotations below which a pair is fully interpolated.
        rounded: llama.cpp rounds the range of pairs between the two to whole pairs; the paper's and OpenAI's code
            (gpt-oss, ``"truncate": false``) does not, and the two differ by up to 0.22 radians at position 1,000.
    """

    original_context: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    rounded: bool = True

    def ramp(self, n_rot: int, base: float) -> NDArray[np.float32]:
        """Share of the original angle, 1 to 0 by pair, (n_rot / 2,)."""

        def pair_of(rotations: float) -> float:
            return n_rot * math.log(self.original_context / (rotations * 2 * math.pi)) / (2 * math.log(base))

        low, high = pair_of(self.beta_fast), pair_of(self.beta_slow)
        if self.rounded:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(0.0, low), min(n_rot - 1.0, high)
        j = np.arange(n_rot // 2, dtype=np.float32)
        y = (j - np.float32(low)) / max(np.float32(0.001), np.float32(high) - np.float32(low))
        kept: NDArray[np.float32] = np.float32(1) - np.clip(y, np.float32(0), np.float32(1))
        return kept


@dataclass(frozen=True, slots=True)
class Rope:
    """One model's rotary embedding.

    Attributes:
        pairing: ``norm`` pairs features (2j, 2j+1), ``neox`` pairs (j, j + n_rot/2).
        n_rot: rotated features of each head, even.
        base: theta, the frequency base.
        factor: positions are divided by it (rope.scaling.factor); 1 for none.
        divisors: each pair's angle is divided by its own number (llama3, LongRoPE), (n_rot / 2,).
        magnitude: cosines and sines are multiplied by it (rope.scaling.attn_factor).
        yarn: blend instead of plain division by ``factor``.
    """

    pairing: Pairing
    n_rot: int
    base: float
    factor: float = 1.0
    divisors: NDArray[np.float32] | None = None
    magnitude: float = 1.0
    yarn: Yarn | None = None

    def table(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cosines and sines for positions ``start`` to ``stop - 1``, each (stop - start, n_rot / 2) float32."""
        step = np.float32(self.base) ** np.float32(-2.0 / self.n_rot)
        theta = np.full((stop - start, self.n_rot // 2), step, np.float32)
        theta[:, 0] = np.arange(start, stop)
        np.multiply.accumulate(theta, axis=1, out=theta)  # theta_j = position * step^j, rounded at every product
        if self.divisors is not None:
            theta /= self.divisors
        magnitude = np.float32(self.magnitude)
        if self.factor != 1.0:
            shrink = np.float32(1.0 / self.factor)
            interpolated = theta * shrink
            if self.yarn is None:
                theta = interpolated
            else:
                ramp = self.yarn.ramp(self.n_rot, self.base)
                theta = interpolated * (np.float32(1) - ramp) + theta * ramp
                magnitude *= np.float32(1.0 + 0.1 * math.log(self.factor))
        angle = theta.astype(np.float64)
        return (np.cos(angle) * magnitude).astype(np.float32), (np.sin(angle) * magnitude).astype(np.float32)
