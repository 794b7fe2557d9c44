"""Validating the reference before anything is compared with it: a broken reference makes every candidate look wrong.

Damage is judged by what damage looks like, the patterns of a reference logger that once read freed memory and of
buffers that were never filled or not filled anew: what is not a number, one index constant in all rows, bit patterns of
pointers, one word over and over, the same row at other tokens. Size is no sign: a trained model's first position holds
values ten thousand times the median. A suspect reference is a verdict of its own; values are never skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from m0_parity.names import INTEGERS, LOGITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from m0_parity.recording import Recording, Request, Rows

_ENOUGH_ROWS: Final = 8
_COLUMNS: Final = 4096
"""Columns that are looked at together."""
_REPEATED: Final = 0.5
"""Share of a row that one word may fill, and of the rows that may repeat the one before them."""


def suspicions(reference: Recording) -> list[str]:
    """What makes ``reference`` unfit to compare with; empty when it is sound."""
    return [
        f"{request.id or 'recording'}, {name}{'' if layer < 0 else f' of layer {layer}'}: {problem}"
        for request in reference
        for (layer, name), rows in sorted(request.rows.items())
        if name not in INTEGERS
        for problem in _problems(rows.values, _tokens(request, rows), levels=name == LOGITS)
    ]


def _tokens(request: Request, rows: Rows) -> npt.NDArray[np.int64] | None:
    """The token of each row, where the recording names them all."""
    known = np.array(request.tokens, np.int64)
    return known[rows.positions] if len(known) > rows.positions.max(initial=-1) else None


def _problems(values: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64] | None, *, levels: bool) -> Iterator[str]:
    """The signs of damage; with ``levels`` most of a row may hold one value, as logits of impossible tokens do."""
    blocks = [slice(at, at + _COLUMNS) for at in range(0, values.shape[1], _COLUMNS)]  # logits' copies would take room
    count = sum(int(np.count_nonzero(~np.isfinite(values[:, block]))) for block in blocks)
    if count:
        row, column = next(
            (r, int(np.argmin(finite))) for r, v in enumerate(values) if not (finite := np.isfinite(v)).all()
        )
        yield f"{count} values are not finite, first in row {row} at index {column}"
        return
    bits = np.ascontiguousarray(values).view(np.uint32)
    if len(values) >= _ENOUGH_ROWS:
        constant = np.concatenate([(values[:, block] == values[0, block]).all(axis=0) for block in blocks])
        if constant.any() and not constant.all():
            at = int(np.flatnonzero(constant)[0])
            yield f"index {at} is exactly {values[0, at]!r} in all {len(values)} rows"
        pointers = np.flatnonzero(np.concatenate([_pointer_like(bits[:, block]) for block in blocks]))
        if len(pointers):
            yield f"index {pointers[0]} holds bit patterns of pointers (one high half, multiples of 16)"
        if tokens is not None and values.any():
            same = np.array([np.array_equal(bits[row], bits[row - 1]) for row in range(1, len(bits))])
            stale = same & (tokens[1:] != tokens[:-1])
            if stale.mean() > _REPEATED:
                row = int(np.flatnonzero(stale)[0])
                repeats = np.count_nonzero(stale)
                yield f"row {row + 1} repeats row {row} bit for bit at another token; {repeats} rows do so"
    if not levels and values.shape[1] >= _ENOUGH_ROWS:
        for row, word, share in _filled(bits):
            yield f"the word {word:#010x} fills {share:.0%} of row {row}"
            break


def _filled(bits: npt.NDArray[np.uint32]) -> Iterator[tuple[int, int, float]]:
    """Rows of which one word other than zero fills more than half: the median of the sorted words is that word."""
    middle = np.partition(bits, bits.shape[1] // 2, axis=1)[:, bits.shape[1] // 2]
    share = (bits == middle[:, None]).mean(axis=1)
    for row in np.flatnonzero((share > _REPEATED) & (middle << np.uint32(1) != 0)):
        yield int(row), int(middle[row]), float(share[row])


def _pointer_like(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Columns where three of four rows share the high 16 bits and differ by multiples of 16.

    Weights of a type with few levels have such columns too, but of zeros, or of FP16 numbers, whose low 13 bits are 0.
    """
    high = bits >> 16
    common = np.sort(high, axis=0)[len(bits) // 2]
    share = ((high == common) & (bits << 1 != 0)).mean(axis=0)
    aligned = (((bits - bits[0]) & 15) == 0).mean(axis=0)
    distinct = (bits != bits[0]).mean(axis=0)
    halves = ((bits & 0x1FFF) == 0).all(axis=0)
    suspect: npt.NDArray[np.bool_] = (share >= 0.75) & (aligned >= 0.75) & (distinct >= 0.5) & ~halves
    return suspect
