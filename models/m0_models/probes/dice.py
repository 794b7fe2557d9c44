"""The dice probe: the same known distribution over a few words after every token, whatever came before.

All embeddings are the all-ones row, whose RMS norm is exactly itself; row j of the output matrix is constant, so that
logit j is its sum: exact in float32, and exact in F16, Q4_0 and Q8_0 files as far as the type can say the constant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from m0_models.bytelevel import Unsayable
from m0_models.probes.form import form_of, place, promised, vocabulary_for, write
from m0_models.probes.parts import Rows
from m0_models.quantize import dequantize, quantize

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.bytelevel import Vocabulary
    from m0_models.probes.likeness import Likeness
    from m0_models.probes.parts import Form, Probe

WIDTH: Final = 256
FACES: Final = {
    b" one": 4.0,
    b" two": 3.5,
    b" three": 3.0,
    b" four": 2.0,
    b" five": 1.0,
    b" six": 0.5,
    b" seven": -1.0,
    b" eight": -2.0,
}
OTHERS: Final = -64.0
"""Logit of every other token: at temperature 2 all of them together weigh less than 1e-12; 200,000, less than 3e-9."""


def dice(
    path: Path,
    *,
    form: Form | None = None,
    quant: str = "F32",
    name: str = "dice probe",
    like: Likeness | None = None,
    spm: bool = False,
) -> Probe:
    """Write the dice probe to ``path``.

    facts: ``tokens`` (hex, in falling order of logit), ``ids``, ``logits`` as the file's own type stores them (so exact
    for F32 arithmetic on any quantization), ``probabilities`` at temperature 1 (float64 softmax), ``others`` (the logit
    of all other tokens), ``vocab``, ``eos`` (never drawn).
    """
    form = form_of(form, like)
    vocabulary = vocabulary_for(form, like, spm=spm)
    vocabulary.merge(b"t", b"h")
    eos = vocabulary.end()
    ids = _faces(vocabulary)
    path = place(path, form)
    size = len(vocabulary)
    index = np.zeros(size, dtype=np.intp)
    index[ids] = 1 + np.arange(len(ids))
    logits = np.array([OTHERS, *FACES.values()])
    table = np.repeat(logits[:, None] / WIDTH, WIDTH, axis=1).astype(np.float32)
    kind = write(
        path,
        form=form,
        quant=quant,
        name=name,
        vocabulary=vocabulary,
        eos=eos,
        embeddings=Rows(np.ones((1, WIDTH), dtype=np.float32), np.zeros(size, dtype=np.intp)),
        output=Rows(table, index),
        like=like,
        padding=table[0],
    )
    sums = dequantize(quantize(table, kind), kind).astype(np.float64).sum(axis=1)
    stored = np.full(like.shape.vocabulary if like is not None else size, sums[0])
    stored[ids] = sums[1:]
    weights = np.exp(stored - stored.max())
    return promised(
        path,
        "dice",
        vocabulary,
        eos,
        form=form,
        quant=quant,
        like=like,
        tokens=vocabulary.hexed(ids),
        ids=ids,
        logits=stored[ids].tolist(),
        probabilities=(weights[ids] / weights.sum()).tolist(),
        others=float(sums[0]),
    )


def _faces(vocabulary: Vocabulary) -> list[int]:
    """The tokens of the faces, or other words where a file's vocabulary has not all of them."""
    try:
        return [vocabulary.add(face) for face in FACES]
    except Unsayable:
        return vocabulary.words(len(FACES), ())
