"""Bounds that know the numbers: what float32 rounding alone may do, from what the reference itself computed.

Miniatures have scores of a few units and products of a few hundred terms, and the bounds of `m0_parity.divergence` are
made for them. In a trained model scores reach a thousand. A score of size S is rounded to within S 2^-24, and softmax
turns this absolute error into a relative one of what attention gathers: NMSE (S 2^-24)², of which a quarter is allowed.
A sum of n float32 terms errs by a random walk of n roundings: NMSE n 2^-48, of which a quarter is allowed again. Where
neither is above the bounds for miniatures, those hold unchanged.

Nothing here looks at the candidate, so no mistake of it can widen a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from m0_parity.divergence import ATTENTION, local_bound
from m0_parity.names import LOGITS, Place

if TYPE_CHECKING:
    import numpy.typing as npt
    from m0_models.scan import Scan

    from m0_parity.recording import Recording, Request

    Floats = npt.NDArray[np.float32]

UNIT: Final = 2.0**-24
"""Half the distance of neighbouring float32 numbers, relative."""
LAYERS: Final = 8
"""Layers behind which a free checkpoint may have its bound; from there on the bound grows with their number, as the
roundings do that add up."""
GROWTH: Final = 10.0
"""What rounding in one layer's attention may grow to (NMSE) on its way through the layers behind it."""
_INPUT: Final = {
    "Qpre": "attn_norm",
    "Kpre": "attn_norm",
    "Vcur": "attn_norm",
    "ffn_inp": "kqv_out",
    "ffn_gate": "ffn_norm",
    "ffn_up": "ffn_norm",
    "ffn_up_b": "ffn_norm",
    "ffn_out": "ffn_swiglu",
    LOGITS: "result_norm",
}
"""Products, and the checkpoint whose features they sum over."""


@dataclass(frozen=True, slots=True)
class Heads:
    """How queries and keys are cut: features of a head, and what scores are multiplied by."""

    head_dim: int
    scale: float

    @classmethod
    def of(cls, scan: Scan) -> Heads:
        """As the file that the reference runs has them."""
        arch, known = scan.architecture, scan.metadata
        width, count = (int(str(known[f"{arch}.{key}"])) for key in ("embedding_length", "attention.head_count"))
        head_dim = int(str(known.get(f"{arch}.attention.key_length", width // count)))
        return cls(head_dim, float(str(known.get(f"{arch}.attention.scale", head_dim**-0.5))))


def largest_score(queries: Floats, keys: Floats, heads: Heads) -> float:
    """The largest score by absolute value that causal attention looks at: (T, n_q) and (T, n_kv) of one request."""
    length = len(queries)
    q = queries.reshape(length, -1, heads.head_dim)
    k = keys.reshape(length, -1, heads.head_dim)
    group = q.shape[1] // k.shape[1]
    seen = np.tril(np.ones((length, length), bool))
    worst = 0.0
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // group].T  # (T, head_dim) x (head_dim, T)
        worst = max(worst, float(np.abs(scores, out=scores).max(where=seen, initial=0.0)))
    return worst * heads.scale


def score_rounding(score: float) -> float:
    """NMSE that rounding scores of size ``score`` makes in what attention gathers."""
    return (score * UNIT) ** 2 / 4


def sum_rounding(terms: int) -> float:
    """NMSE that summing ``terms`` float32 products makes."""
    return terms * UNIT**2 / 4


class Bounds:
    """Bounds of a model's places, learnt layer by layer from the reference.

    Attributes:
        scores: the largest score of each layer, over all requests.
    """

    def __init__(self, base: float, heads: Heads, *, gelu_table: bool) -> None:
        self._base = base
        self._heads = heads
        self._gelu_table = gelu_table
        self._widths: dict[Place, int] = {}
        self._attention: dict[tuple[str, int], float] = {}
        self._so_far: dict[tuple[str, int], float] = {}
        self.scores: dict[int, float] = {}

    def learn(self, layer: int, reference: Recording) -> None:
        """Take the scores and widths of one layer, or of the head (layer -1)."""
        for request in reference:
            for place, rows in request.rows.items():
                self._widths[place] = rows.features
            if layer >= 0:
                self._learn_scores(layer, request)

    def _learn_scores(self, layer: int, request: Request) -> None:
        score = largest_score(request.rows[layer, "Qcur"].values, request.rows[layer, "Kcur"].values, self._heads)
        self.scores[layer] = max(score, self.scores.get(layer, 0.0))
        rounding = score_rounding(score)
        self._attention[request.id, layer] = rounding
        self._so_far[request.id, layer] = max(rounding, self._so_far.get((request.id, layer - 1), 0.0))

    def local(self, request: str, place: Place) -> float:
        """What one operation may differ by from equal inputs."""
        layer, name = place
        plain = local_bound(place, gelu_table=self._gelu_table)
        if name == "kqv_out":
            return max(plain, self._attention[request, layer])
        source = _INPUT.get(name)
        if source is not None:
            terms = self._widths.get((layer, source), self._widths.get((layer, "ffn_gelu"), 0))
            return max(plain, sum_rounding(terms))
        return plain

    def free(self, request: str, place: Place) -> float:
        """What a place may differ by when both engines go on from their own results."""
        layer = place[0]
        if layer < 0:
            if place[1] in {"embd", "inpL"}:
                return self._base
            layer = max(self.scores, default=-1)
        base = self._base * max(1.0, (layer + 1) / LAYERS)
        rounding = self._so_far.get((request, layer), 0.0)
        return base if rounding <= ATTENTION else max(base, GROWTH * rounding)
