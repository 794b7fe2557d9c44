"""The dice probe: the same known distribution over a few words after every token, whatever came before.

All embeddings are the all-ones row, whose RMS norm is exactly itself; row j of the output matrix is constant, so that
logit j is its sum: exact in float32, and exact in F16, Q4_0 and Q8_0 files as far as the type can say the constant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from m0_models.bytelevel import Vocabulary
from m0_models.probes.form import Form, Probe, promised, write
from m0_models.quantize import dequantize, quantize

if TYPE_CHECKING:
    from pathlib import Path

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
"""Logit of every other token: at temperature 2 all of them together weigh less than 1e-12."""


def dice(path: Path, *, form: Form = "qwen2", quant: str = "F32", name: str = "dice probe") -> Probe:
    """Write the dice probe to ``path``.

    facts: ``tokens`` (hex, in falling order of logit), ``ids``, ``logits`` as the file's own type stores them (so exact
    for F32 arithmetic on any quantization), ``probabilities`` at temperature 1 (float64 softmax), ``others`` (the logit
    of all other tokens), ``vocab``, ``eos`` (never drawn).
    """
    vocabulary = Vocabulary(pre="llama-bpe" if form == "llama" else "qwen2")
    vocabulary.merge(b"t", b"h")
    eos = vocabulary.control("<|endoftext|>")
    ids = [vocabulary.add(face) for face in FACES]
    logits = np.full(len(vocabulary), OTHERS)
    logits[ids] = list(FACES.values())
    output = np.repeat(logits[:, None] / WIDTH, WIDTH, axis=1).astype(np.float32)
    write(
        path,
        form=form,
        quant=quant,
        name=name,
        vocabulary=vocabulary,
        eos=eos,
        embeddings=np.ones((len(vocabulary), WIDTH), dtype=np.float32),
        output=output,
    )
    stored = dequantize(quantize(output, quant), quant).astype(np.float64).sum(axis=1)
    weights = np.exp(stored[ids] - stored.max())
    return promised(
        path,
        "dice",
        vocabulary,
        eos,
        form=form,
        quant=quant,
        tokens=[face.hex() for face in FACES],
        ids=ids,
        logits=stored[ids].tolist(),
        probabilities=(weights / np.exp(stored - stored.max()).sum()).tolist(),
        others=float(np.delete(stored, ids).max()),
    )
