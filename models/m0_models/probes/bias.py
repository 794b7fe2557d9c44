"""The bias probe: the value bias alone decides what is said, so a reader that leaves biases out says something else.

Queries, keys and value weights are zero: whatever attention averages, it averages the same one-hot code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from m0_models.probes import alphabet
from m0_models.probes.form import HEAD, Probe, promised, write

if TYPE_CHECKING:
    from pathlib import Path

SAYS: Final = "r"
STRENGTH: Final = 32.0
SCALE: Final = 512.0


def bias(path: Path, *, quant: str = "F32", name: str = "bias probe") -> Probe:
    """Write the bias probe to ``path``, in qwen2 form, which has biases.

    facts: ``says``, the one character that follows everything.
    """
    vocabulary, eos = alphabet.vocabulary("qwen2")
    value = np.zeros(HEAD, dtype=np.float32)
    value[alphabet.CHARACTERS.index(SAYS)] = 1.0
    write(
        path,
        form="qwen2",
        quant=quant,
        name=name,
        vocabulary=vocabulary,
        eos=eos,
        embeddings=alphabet.embeddings(len(vocabulary)),
        output=alphabet.readout(len(vocabulary), SCALE),
        layer={"attn_v.bias": value, "attn_output.weight": alphabet.attention_output(STRENGTH)},
    )
    return promised(
        path,
        "bias",
        vocabulary,
        eos,
        form="qwen2",
        quant=quant,
        says=SAYS,
    )
