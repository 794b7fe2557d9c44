"""llama.cpp's sampler chain on logits of our choice."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Self

from m0_parity.llamacpp.abi import TokenData, TokenDataArray, library

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt


class Chain:
    """A sampler chain; add filters in the order in which they shall apply.

    ``filters`` are (name, *arguments) with names greedy, dist (seed), top_k (k), top_p (p), min_p (p), temp (t),
    penalties (vocabulary, last_n, repeat, frequency, presence).
    """

    def __init__(self, *filters: tuple[str, *tuple[float | int, ...]]) -> None:
        self._lib = library()
        self._chain = self._lib.llama_sampler_chain_init(self._lib.llama_sampler_chain_default_params())
        for name, *arguments in filters:
            keep = [1] if name in {"top_p", "min_p"} else []  # min_keep
            made = getattr(self._lib, f"llama_sampler_init_{name}")(*arguments, *keep)
            self._lib.llama_sampler_chain_add(self._chain, made)

    def apply(self, logits: npt.NDArray[np.float32]) -> tuple[list[int], list[float], int | None]:
        """Run the chain once: surviving ids and their probabilities (as the chain left them), and the id selected."""
        data = (TokenData * len(logits))()
        for token, logit in enumerate(logits.tolist()):
            data[token] = TokenData(token, logit, 0.0)
        array = TokenDataArray(data, len(logits), -1, False)
        self._lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        left = [array.data[i] for i in range(array.size)]
        chosen = int(array.data[array.selected].id) if array.selected >= 0 else None
        return [int(item.id) for item in left], [float(item.p) for item in left], chosen

    def accept(self, tokens: Sequence[int]) -> None:
        """Add ``tokens`` to the history that the penalties look at."""
        for token in tokens:
            self._lib.llama_sampler_accept(self._chain, token)

    def close(self) -> None:
        """Free the chain and its filters."""
        if self._chain:
            self._lib.llama_sampler_free(self._chain)
            self._chain = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
