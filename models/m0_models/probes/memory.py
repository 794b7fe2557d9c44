"""The memory probe: attention averages over everything seen, so the logits count the letters of the context.

Queries and keys are zero, hence attention is uniform; values carry one-hot codes of 64 letters. The logit of a
letter is proportional to how often it occurred, and zero for one that never did: whatever a cache keeps from an
earlier job, or loses from this one, becomes text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from m0_models.probes.alphabet import CHARACTERS, alphabet, attention_output, value_weight
from m0_models.probes.form import form_of, place, promised, write
from m0_models.probes.parts import Attention

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.probes.likeness import Likeness
    from m0_models.probes.parts import Form, Probe

STRENGTH: Final = 32.0
SCALE: Final = 512.0
MARGIN: Final = 48.0
"""Logit of 31 different letters seen once each above every unseen one, in any quantization; F32 gives 75."""


def memory(
    path: Path,
    *,
    form: Form | None = None,
    quant: str = "F32",
    name: str = "memory probe",
    like: Likeness | None = None,
    spm: bool = False,
) -> Probe:
    """Write the memory probe to ``path``.

    facts: ``alphabet`` (letters told apart, every other token counts as the last one; one text of single characters, or
    a list of words), ``rule``. With n_c the share of letter c in prompt and text so far, logit c = scale * a_c /
    sqrt(1 + sum of a²), a = strength * n: at temperature 0 the most frequent letter wins, and stays; at any temperature
    letters never seen stay unsaid.
    """
    form = form_of(form, like)
    letters = alphabet(form, like, spm=spm)
    path = place(path, form)
    write(
        path,
        form=form,
        quant=quant,
        name=name,
        vocabulary=letters.vocabulary,
        eos=letters.eos,
        embeddings=letters.embeddings(),
        output=letters.readout(SCALE),
        attention=Attention(attention_output(STRENGTH), value=value_weight(1.0)),
        like=like,
    )
    return promised(
        path,
        "memory",
        letters.vocabulary,
        letters.eos,
        form=form,
        quant=quant,
        like=like,
        alphabet=CHARACTERS if letters.letters == list(CHARACTERS) else letters.letters,
        rule="temperature 0 repeats the most frequent letter of the prompt; what was never seen is never said",
        strength=STRENGTH,
        scale=SCALE,
        margin=MARGIN,
    )
