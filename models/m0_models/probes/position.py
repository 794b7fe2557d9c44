"""The position probe: attention sees exactly the token three back, and the text says which it was.

Queries and keys are constants, so only the rotary embedding tells positions apart. All rotating pairs with an angle
above 0.05 per step are in use (rope base 100 where no model's shape says another); the query's phases are turned back
by three steps, so the score of lag n is a sum of cosines of (n - 3) angles, and only lag 3 has them all in phase. A
prompt therefore repeats itself with period four: "abcd" is continued "abcdabcd". Rotating the wrong pairs, starting
positions at one in one place only, or dropping a cached position breaks the echo at once.

The constants come from a direction that every embedding has, through the weights: an engine that leaves biases out is
none the worse here, and the bias probe says so.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from m0_models.probes.alphabet import CHARACTERS, WIDTH, alphabet, attention_output, value_weight
from m0_models.probes.form import form_of, place, promised, rotation_of, write
from m0_models.probes.parts import Attention, Floats, hadamard

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from m0_models.probes.likeness import Likeness
    from m0_models.probes.parts import Form, Probe, Rotation

LAG: Final = 3
ROPE_BASE: Final = 100.0
AMPLITUDE: Final = 10.0
"""Of the query's and the key's pairs, at least."""
STRENGTH: Final = 16.0
SCALE: Final = 32.0
_SLOWEST: Final = 0.05
_APART: Final = 24.0
"""Least distance of the score of lag 3 from that of any other lag."""
_LAGS: Final = 4096
"""Lags that are looked at; a longer context is none of this probe's business."""


def amplitude(rotation: Rotation) -> float:
    """Length of a pair in query and key, such that attention sees one lag only.

    The score of lag n is A² * sum of cos((n - LAG) * angle) / sqrt(head); few fast pairs need a larger A.
    """
    angles = rotation.angles()
    fast = angles[angles > _SLOWEST]
    lags = np.arange(1, _LAGS)[:, None]
    gap = float((1 - np.cos(lags * fast)).sum(axis=1).min())
    return max(AMPLITUDE, math.sqrt(_APART * math.sqrt(rotation.head) / gap))


def phases(rotation: Rotation, lag: int) -> Floats:
    """(head,) a vector of the amplitude's length in every fast pair, turned back by ``lag`` positions."""
    angles: npt.NDArray[np.float64] = rotation.angles()
    length = np.where(angles > _SLOWEST, amplitude(rotation), 0.0)
    first, second = rotation.pairs()
    vector = np.zeros(rotation.head, dtype=np.float32)
    vector[first] = length * np.cos(-lag * angles)
    vector[second] = length * np.sin(-lag * angles)
    return vector


def position(
    path: Path,
    *,
    form: Form | None = None,
    quant: str = "F32",
    pairing: Form | None = None,
    name: str = "position probe",
    like: Likeness | None = None,
    spm: bool = False,
) -> Probe:
    """Write the position probe to ``path``.

    ``pairing`` writes the phases for the other form's pairs, as a reader with the wrong pairing would see the file:
    the echo is then lost, which shows that the probe can tell.

    facts: ``lag`` (3), ``period`` (4), ``alphabet`` (see the memory probe), ``rule``. The promise holds from the fourth
    prompt token on.
    """
    form = form_of(form, like)
    letters = alphabet(form, like, spm=spm)
    path = place(path, form)
    rotation = rotation_of(form, like, ROPE_BASE)
    if pairing is not None:
        rotation = replace(rotation, adjacent=pairing == "llama")
    norm = float(1 / np.sqrt(2))
    row = hadamard(WIDTH)[0] / np.float32(WIDTH * norm)
    write(
        path,
        form=form,
        quant=quant,
        name=name,
        vocabulary=letters.vocabulary,
        eos=letters.eos,
        embeddings=letters.embeddings(constant=True),
        output=letters.readout(SCALE),
        attention=Attention(
            attention_output(STRENGTH),
            query=np.outer(phases(rotation, LAG), row),
            key=np.outer(phases(rotation, 0), row),
            value=value_weight(norm),
        ),
        rope_base=ROPE_BASE,
        like=like,
    )
    return promised(
        path,
        "position",
        letters.vocabulary,
        letters.eos,
        form=form,
        quant=quant,
        like=like,
        lag=LAG,
        period=LAG + 1,
        alphabet=CHARACTERS if letters.letters == list(CHARACTERS) else letters.letters,
        rule="each new token repeats the one four places before it: the prompt's last four, over and over",
    )
