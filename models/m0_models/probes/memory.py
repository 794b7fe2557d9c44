"""The memory probe: attention averages over everything seen, so the logits count the characters of the context.

Queries and keys are zero, hence attention is uniform; values carry one-hot codes of 64 characters. The logit of a
character is proportional to how often it occurred, and zero for one that never did: whatever a cache keeps from an
earlier job, or loses from this one, becomes text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from m0_models.probes import alphabet
from m0_models.probes.form import Form, Probe, promised, write

if TYPE_CHECKING:
    from pathlib import Path

STRENGTH: Final = 32.0
SCALE: Final = 512.0
MARGIN: Final = 48.0
"""Logit of 31 different characters seen once each above every unseen one, in any quantization; F32 gives 75."""


def memory(path: Path, *, form: Form = "qwen2", quant: str = "F32", name: str = "memory probe") -> Probe:
    """Write the memory probe to ``path``.

    facts: ``alphabet`` (characters told apart, every other byte counts as the last one), ``rule``. With n_c the share
    of character c in prompt and text so far, logit c = scale * a_c / sqrt(1 + sum of a²), a = strength * n: at
    temperature 0 the most frequent character wins, and stays; at any temperature characters never seen stay unsaid.
    """
    vocabulary, eos = alphabet.vocabulary("llama-bpe" if form == "llama" else "qwen2")
    write(
        path,
        form=form,
        quant=quant,
        name=name,
        vocabulary=vocabulary,
        eos=eos,
        embeddings=alphabet.embeddings(len(vocabulary)),
        output=alphabet.readout(len(vocabulary), SCALE),
        layer={
            "attn_v.weight": alphabet.value_weight(1.0),
            "attn_output.weight": alphabet.attention_output(STRENGTH),
        },
    )
    return promised(
        path,
        "memory",
        vocabulary,
        eos,
        form=form,
        quant=quant,
        alphabet=alphabet.CHARACTERS,
        rule="temperature 0 repeats the most frequent character of the prompt; what was never seen is never said",
        strength=STRENGTH,
        scale=SCALE,
        margin=MARGIN,
    )
