"""The bias probe: the value bias alone decides what is said, so a reader that leaves biases out says something else.

Queries, keys and value weights are zero: whatever attention averages, it averages the same one-hot code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from m0_models.probes.alphabet import alphabet, attention_output
from m0_models.probes.form import form_of, place, promised, write
from m0_models.probes.parts import HEAD, Attention

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.probes.likeness import Likeness
    from m0_models.probes.parts import Form, Probe

SAYS: Final = "r"
STRENGTH: Final = 32.0
SCALE: Final = 512.0
BIASED: Final = ("qwen2", "gpt-oss")


def bias(
    path: Path, *, form: Form | None = None, quant: str = "F32", name: str = "bias probe", like: Likeness | None = None
) -> Probe:
    """Write the bias probe to ``path``, in qwen2 form or another that has biases.

    facts: ``says``, the one letter that follows everything.

    Raises:
        ValueError: files of this form have no biases.
    """
    form = form_of(form, like)
    if form not in BIASED:
        raise ValueError(f"{form} files have no biases, so nothing can be said through them")
    letters = alphabet(form, like, spm=False)
    path = place(path, form)
    number = letters.letters.index(SAYS) if SAYS in letters.letters else 0
    value = np.zeros(HEAD, dtype=np.float32)
    value[number] = 1.0
    write(
        path,
        form=form,
        quant=quant,
        name=name,
        vocabulary=letters.vocabulary,
        eos=letters.eos,
        embeddings=letters.embeddings(),
        output=letters.readout(SCALE),
        attention=Attention(attention_output(STRENGTH), value_bias=value),
        like=like,
    )
    return promised(
        path,
        "bias",
        letters.vocabulary,
        letters.eos,
        form=form,
        quant=quant,
        like=like,
        says=letters.letters[number],
    )
