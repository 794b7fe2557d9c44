"""A few tokens through a loaded model, before it is called ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from m0_worker.adapters import ModelError
from m0_worker.errors import OutOfMemory
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from m0_worker.engine import Model


def try_out(model: Model, where: str) -> None:
    """Refuse a model whose numbers are none: every job would fail.

    Weights are not looked at one by one, but damaged ones (NaN, infinite scales, other types than they say) spread to
    all logits behind them within one token, and damaged rotations from the second position on. Only embeddings of
    other tokens stay unseen.

    Args:
        model: loaded.
        where: its file, for the message.

    Raises:
        ModelError: a logit is not finite.
    """
    last = model.n_vocab - 1
    tokens = [0, last // 3, 2 * last // 3, last][: model.n_ctx]
    try:
        job = model.open(len(tokens), SamplingParams(temperature=0.0), seed=0)
    except OutOfMemory:  # what remains for jobs is for each of them to find out
        return
    try:
        for _ in job.prefill(tokens):
            pass
        finite = bool(np.isfinite(job.logits()).all())
    except ArithmeticError:
        finite = False
    finally:
        job.close()
    if not finite:
        cure = "the weights are damaged; download or convert the model again"
        raise ModelError("not-finite", "the model computes logits that are no finite numbers", where=where, cure=cure)
