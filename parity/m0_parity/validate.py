"""Validating the reference before anything is compared with it: a broken reference makes every candidate look wrong.

The patterns are those of a reference logger that once read freed memory: one index constant in all rows, bit patterns
of pointers, values far outside the rest. A suspect reference is a verdict of its own; values are never skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from m0_parity.names import INTEGERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from m0_parity.recording import Recording

_ENOUGH_ROWS: Final = 8
_OUTLIER: Final = 1e4


def suspicions(reference: Recording) -> list[str]:
    """What makes ``reference`` unfit to compare with; empty when it is sound."""
    return [
        f"{request.id or 'recording'}, {name}{'' if layer < 0 else f' of layer {layer}'}: {problem}"
        for request in reference
        for (layer, name), rows in sorted(request.rows.items())
        if name not in INTEGERS
        for problem in _problems(rows.values)
    ]


def _problems(values: npt.NDArray[np.float32]) -> Iterator[str]:
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        yield f"{np.count_nonzero(~finite)} values are not finite, first in row {row} at index {column}"
        return
    if len(values) >= _ENOUGH_ROWS:
        constant = (values == values[0]).all(axis=0)
        if constant.any() and not constant.all():
            at = int(np.flatnonzero(constant)[0])
            yield f"index {at} is exactly {values[0, at]!r} in all {len(values)} rows"
        bits = np.ascontiguousarray(values).view(np.uint32)
        for column in np.flatnonzero(_pointer_like(bits)):
            yield f"index {column} holds bit patterns of pointers (one high half, multiples of 16)"
            break
    size = np.abs(values)
    median = float(np.median(size))
    if median > 0 and float(size.max()) > _OUTLIER * median:
        row, column = np.unravel_index(int(size.argmax()), values.shape)
        yield f"row {row}, index {column} is {values[row, column]:.3g}, {_OUTLIER:.0e} times the median"


def _pointer_like(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Columns where three of four rows share the high 16 bits and differ by multiples of 16."""
    high = bits >> 16
    common = np.sort(high, axis=0)[len(bits) // 2]
    share = (high == common).mean(axis=0)
    aligned = (((bits - bits[0]) & 15) == 0).mean(axis=0)
    distinct = (bits != bits[0]).mean(axis=0)
    suspect: npt.NDArray[np.bool_] = (share >= 0.75) & (aligned >= 0.75) & (distinct >= 0.5)
    return suspect
