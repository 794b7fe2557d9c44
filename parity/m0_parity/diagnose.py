"""Guessing the kind of an error from its shape, in one sentence.

The guess works on values computed from the reference's own inputs, so what differs is one operation: the pattern of the
difference (by feature, by position, by token) usually gives its cause away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from m0_parity.names import Place
    from m0_parity.recording import Recording, Request

    Doubles = npt.NDArray[np.float64]

_CLOSE: Final = 1e-2
"""Relative size of what may be left over when a pattern explains a difference."""


@dataclass(frozen=True, slots=True)
class Case:
    """One place: the reference's and the worker's values of all requests, joined along the tokens."""

    place: Place
    pairs: list[tuple[Request, Request]]
    expected: Doubles
    """(tokens, features)."""
    seen: Doubles

    @property
    def features(self) -> int:
        """Columns."""
        return int(self.expected.shape[1])

    def columns(self) -> npt.NDArray[np.int64]:
        """Features that carry the error."""
        return _affected(self.expected, self.seen, axis=0)

    def rows(self) -> npt.NDArray[np.int64]:
        """Tokens that carry the error."""
        return _affected(self.expected, self.seen, axis=1)

    def explained_by(self, model: Doubles) -> bool:
        """Whether ``model`` leaves almost nothing of the difference."""
        left, all_of_it = np.square(self.seen - model).sum(), np.square(self.seen - self.expected).sum()
        return bool(left <= _CLOSE * all_of_it)

    def factor(self, axis: int) -> Doubles:
        """The multiple of the expected values that fits best, by column (axis 0) or by row (axis 1)."""
        size = np.square(self.expected).sum(axis=axis)
        fitted: Doubles = (self.seen * self.expected).sum(axis=axis) / np.maximum(size, 1e-300)
        return fitted


def diagnose(place: Place, reference: Recording, forced: Recording | None) -> str:
    """One sentence on what the error at ``place`` looks like; ``forced`` holds the worker's teacher-forced values."""
    if forced is None:
        return "no single operation is off: small differences add up"
    ours: list[Request] = [r for r in forced if r.id in reference.requests and place in r.rows]
    pairs = [(reference.requests[r.id], r) for r in ours]
    expected = np.concatenate([a.rows[place].values for a, _ in pairs]).astype(np.float64)
    seen = np.concatenate([b.rows[place].values for _, b in pairs]).astype(np.float64)
    if expected.shape != seen.shape:
        return f"another width: {seen.shape[1]} instead of {expected.shape[1]} values a token"
    if not np.isfinite(seen).all():
        return f"{np.count_nonzero(~np.isfinite(seen))} values are NaN or infinite"
    return _PATTERNS.get(place[1], _linear)(Case(place, pairs, expected, seen))


def _span(indices: npt.NDArray[np.int64], of: int, what: str = "features") -> str:
    if len(indices) == of:
        return f"all {what}"
    shown = ", ".join(map(str, indices[:4])) + (", ..." if len(indices) > 4 else "")
    return f"{what} {shown} ({len(indices)} of {of})"


def _affected(expected: Doubles, seen: Doubles, axis: int) -> npt.NDArray[np.int64]:
    """Rows (axis 1 summed) or columns (axis 0 summed) that carry the error."""
    error = np.square(seen - expected).sum(axis=axis)
    affected: npt.NDArray[np.int64] = np.flatnonzero(error > 1e-6 * error.max())
    return affected


def _linear(case: Case) -> str:
    """A product with a weight: bias, scale, order of rows, some rows, or all of it."""
    columns = case.columns()
    span = _span(columns, case.features)
    offset = (case.seen - case.expected).mean(axis=0)
    if case.explained_by(case.expected + offset):
        return f"the same offset at every position in {span}: a bias is missing, added or changed"
    factor = case.factor(axis=0)
    if case.explained_by(case.expected * factor):
        scales = np.unique(np.round(factor[columns], 3) + 0.0)
        if not scales.any():
            return f"{span} are zero: rows of the weight are missing"
        size = f"factor {scales[0]:.3f}" if len(scales) == 1 else f"factors {scales.min():.3f} to {scales.max():.3f}"
        return f"scaled by a constant in {span} ({size}): a scale differs"
    source = _permutation(case.expected, case.seen, columns)
    if source is not None:
        moves = ", ".join(f"{s} at {c}" for c, s in list(zip(columns, source, strict=True))[:3])
        return (
            f"the right values in the wrong order ({span}; {moves}): rows of the weight are permuted, "
            "as for the other RoPE pairing, swapped heads or swapped parts"
        )
    if len(columns) < case.features:
        return f"only {span} differ: some rows of the weight, or their blocks, differ"
    if _rank_one(case.seen - case.expected):
        return "the difference is one vector times a number by token: one input column of the weight differs"
    rows = case.rows()
    if 2 * len(rows) < len(case.expected):
        return f"only {_span(rows, len(case.expected), 'tokens')} differ: the error depends on the token"
    return "every feature differs at every position: the weight, its layout (transposed?) or its blocks differ"


def _rank_one(difference: Doubles) -> bool:
    sizes = np.linalg.svd(difference, compute_uv=False)
    return bool(np.square(sizes[1:]).sum() <= _CLOSE * np.square(sizes[0]))


def _permutation(expected: Doubles, seen: Doubles, columns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """For each affected column, the reference column it equals; None if one equals none."""
    if len(columns) < 2 or len(expected) < 4:
        return None
    norm_e = expected / np.maximum(np.linalg.norm(expected, axis=0), 1e-300)
    norm_s = seen[:, columns] / np.maximum(np.linalg.norm(seen[:, columns], axis=0), 1e-300)
    match = norm_e.T @ norm_s  # (features, affected)
    source: npt.NDArray[np.int64] = match.argmax(axis=0)
    return source if (match.max(axis=0) > 1 - 1e-6).all() and len(set(source.tolist())) == len(source) else None


def _norm(case: Case) -> str:
    """Of three patterns the one that leaves least: an offset and a factor by feature, a factor by token."""
    factors, by_token = _by_token(case)
    columns = _span(case.columns(), case.features)
    kinds = {
        f"the same offset at every position in {columns}: a norm bias differs": case.expected
        + (case.seen - case.expected).mean(axis=0),
        f"constant factors in {columns}: the norm's weight differs": case.expected * case.factor(axis=0),
        f"each token's row is off by its own factor ({factors.min():.6f} to {factors.max():.6f}): "
        "epsilon, or the mean that is divided by, differs": by_token,
    }
    best = min(kinds, key=lambda kind: np.square(case.seen - kinds[kind]).sum())
    if case.explained_by(kinds[best]):
        return best
    return "neither a factor nor an offset explains it: another kind of norm, or its parameters changed together"


def _by_token(case: Case) -> tuple[Doubles, Doubles]:
    """Factors c by token such that seen = b + c (expected - b), with a norm bias b fitted along; and that model."""
    difference, bias = case.seen - case.expected, np.zeros(case.features)
    grown = np.zeros(len(difference))
    for _ in range(20):  # alternating least squares
        plain = case.expected - bias
        grown = (difference * plain).sum(axis=1) / np.maximum(np.square(plain).sum(axis=1), 1e-300)
        weight = np.square(grown).sum()
        if weight > 0:
            bias = (np.square(grown)[:, None] * case.expected - grown[:, None] * difference).sum(axis=0) / weight
    return 1 + grown, case.expected + grown[:, None] * (case.expected - bias)


def _embedding(case: Case) -> str:
    tokens = np.concatenate([np.array(a.tokens, dtype=np.int64)[a.rows[case.place].positions] for a, _ in case.pairs])
    rows = case.rows()
    wrong = np.unique(tokens[rows])
    swapped = [
        f"{t} holds the row of {tokens[m[0]]}"
        for t in wrong[:4]
        if len(m := _rows_like(case.expected, case.seen[np.flatnonzero(tokens == t)[0]]))
    ]
    if swapped:
        return f"rows of the vocabulary are in the wrong place: token {'; token '.join(swapped)}"
    return f"the embedding rows of {_span(wrong, len(np.unique(tokens)), 'token ids')} differ"


def _rows_like(rows: Doubles, row: Doubles) -> npt.NDArray[np.int64]:
    equal: npt.NDArray[np.int64] = np.flatnonzero((np.abs(rows - row) < 1e-6).all(axis=1))
    return equal


def _positions(case: Case) -> str:
    request, ours = case.pairs[0]
    base = request.rows[-1, "embd"].values.astype(np.float64)
    due, got = request.rows[case.place].values - base, ours.rows[case.place].values - base
    for shift in (1, -1, 2, -2):
        a, b = (due[shift:], got[:-shift]) if shift > 0 else (due[:shift], got[-shift:])
        if np.square(a - b).sum() <= _CLOSE * np.square(a).sum():
            return f"the learned positions are shifted by {shift}"
    rows = _affected(due, got, axis=1)
    return f"the position embeddings of {_span(rows, len(due), 'positions')} differ"


def _rope(case: Case) -> str:
    """Rotations: which case.pairs, by how much, and from which position on."""
    before: Place = (case.place[0], {"Qcur": "Qpre", "Kcur": "Kpre"}[case.place[1]])
    request, ours = case.pairs[0]
    if before not in request.rows:
        return _linear(case)
    x = request.rows[before].values.astype(np.float64)
    due, got = (r.rows[case.place].values.astype(np.float64) for r in (request, ours))
    sizes = np.linalg.norm(got, axis=1) / np.linalg.norm(due, axis=1)
    if np.abs(sizes - sizes[0]).max() < 1e-4 and abs(sizes[0] - 1) > 1e-4:
        return (
            f"rotated values are {sizes[0]:.4f} times as long at every position: the magnitude factor of RoPE differs"
        )
    for shift in (1, -1):
        if _same_rotation(x, due, got, shift):
            return f"rotated as if every position were {shift:+d}: positions are shifted"
    still = "equal at position 0, different later" if _row_equal(due, got, 0) else "different from position 0 on"
    columns = _affected(due, got, axis=0)
    return (
        f"the rotation differs in {_span(columns, due.shape[1])}, {still}: "
        "RoPE pairing, base, scaling (YaRN rounding, LongRoPE factors) or number of rotated features"
    )


def _same_rotation(x: Doubles, due: Doubles, got: Doubles, shift: int) -> bool:
    """Whether got[p] = R(p + shift) x[p], judged by the angle between x and its rotation, which is the pair's own."""
    a, b = (x * due).sum(axis=1), (x * got).sum(axis=1)
    size = np.square(x).sum(axis=1)
    left, right = (a / size)[max(shift, 0) :], (b / size)[: len(b) - shift if shift > 0 else None]
    n = min(len(left), len(right))
    return bool(n > 4 and np.abs(left[:n] - right[:n]).max() < 1e-6)


def _row_equal(due: Doubles, got: Doubles, row: int) -> bool:
    return bool(np.square(due[row] - got[row]).sum() <= 1e-10 * np.square(due[row]).sum())


def _attention(case: Case) -> str:
    request, ours = case.pairs[0]
    due, got = (r.rows[case.place].values.astype(np.float64) for r in (request, ours))
    rows = _affected(due, got, axis=1)
    if len(rows) and rows[0] > 1:
        return f"equal up to position {rows[0] - 1}, different from {rows[0]} on: the window or mask ends elsewhere"
    if len(rows) and rows[0] == 1:
        return "equal at position 0, where there is nothing to weigh, different later: scale, mask or softmax of scores"
    ratio = (got[0] * due[0]).sum() / np.square(due[0]).sum()
    if np.square(got[0] - ratio * due[0]).sum() <= _CLOSE * np.square(got[0]).sum():
        return f"already position 0 is scaled by {ratio:.3f}: attention sinks, or the sum that is divided by"
    columns = _affected(due, got, axis=0)
    return (
        f"different from position 0 on in {_span(columns, due.shape[1])}: heads, sinks, or which head reads which key"
    )


def _experts(case: Case) -> str:
    chosen_at: Place = (case.place[0], "ffn_moe_topk")
    if not all(chosen_at in a.rows for a, _ in case.pairs):
        return _linear(case)
    chosen = np.concatenate([a.rows[chosen_at].values for a, _ in case.pairs]).astype(np.int64)
    wrong = np.zeros(len(case.expected), dtype=bool)
    wrong[case.rows()] = True
    experts = np.unique(chosen)
    # An expert is to blame if every token that chose it is wrong; tokens that chose none of those must be right.
    blamed = [e for e in experts if wrong[(chosen == e).any(axis=1)].all()]
    if blamed and len(blamed) < len(experts) and not wrong[~np.isin(chosen, blamed).any(axis=1)].any():
        names = " and ".join(str(e) for e in blamed)
        return f"only tokens that chose expert {names} differ: those experts' weights or biases differ"
    return "tokens differ whatever experts they chose: expert biases, activation, or the weights' layout"


def _choice(case: Case) -> str:
    rows = case.rows()
    return f"other experts are chosen for {_span(rows, len(case.expected), 'tokens')}: the router's order differs"


def _gated(case: Case) -> str:
    layer = case.place[0]
    if all({(layer, "ffn_gate"), (layer, "ffn_up")} <= a.rows.keys() for a, _ in case.pairs):
        gate, up = (np.concatenate([a.rows[layer, n].values for a, _ in case.pairs]) for n in ("ffn_gate", "ffn_up"))
        up = up.astype(np.float64)
        if case.explained_by(up / (1 + np.exp(-up)) * gate):
            return "the activation is applied to the wrong half: gate and up are swapped"
    return "the activation function differs"


def _logits(case: Case) -> str:
    return _linear(case).replace("features", "token ids")


_PATTERNS: Final[dict[str, Callable[[Case], str]]] = {
    "embd": _embedding,
    "inpL": _positions,
    "attn_norm": _norm,
    "ffn_norm": _norm,
    "result_norm": _norm,
    "Qcur": _rope,
    "Kcur": _rope,
    "kqv_out": _attention,
    "ffn_moe_topk": _choice,
    "ffn_out": _experts,
    "ffn_swiglu": _gated,
    "ffn_gelu": _gated,
    "result_output": _logits,
}
