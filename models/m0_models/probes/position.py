"""The position probe: attention sees exactly the token three back, and the text says which it was.

Queries and keys are constants, so only the rotary embedding tells positions apart. All rotating pairs with an angle
above 0.05 per step (rope base 100) are in use; the query's phases are turned back by three steps, so the score of lag n
is a sum of cosines of (n - 3) angles, and only lag 3 has them all in phase. A prompt therefore repeats itself with
period four: "abcd" is continued "abcdabcd". Rotating the wrong pairs, starting positions at one in one place only, or
dropping a cached position breaks the echo at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from m0_models.probes import alphabet
from m0_models.probes.form import HEAD, Floats, Form, Probe, hadamard, promised, write

if TYPE_CHECKING:
    from pathlib import Path

LAG: Final = 3
ROPE_BASE: Final = 100.0
AMPLITUDE: Final = 10.0
STRENGTH: Final = 16.0
SCALE: Final = 32.0
_SLOWEST: Final = 0.05


def pairs(form: Form) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """First and second dimension of each rotated pair: (2j, 2j+1) in llama files, (j, j+32) in qwen2 files."""
    j = np.arange(HEAD // 2)
    return (2 * j, 2 * j + 1) if form == "llama" else (j, j + HEAD // 2)


def phases(form: Form, lag: int) -> Floats:
    """(HEAD,) a vector of length AMPLITUDE in every fast pair, turned back by ``lag`` positions."""
    angle = ROPE_BASE ** (-2 * np.arange(HEAD // 2) / HEAD)  # radians per position
    length = np.where(angle > _SLOWEST, AMPLITUDE, 0.0)
    first, second = pairs(form)
    vector = np.zeros(HEAD, dtype=np.float32)
    vector[first] = length * np.cos(-lag * angle)
    vector[second] = length * np.sin(-lag * angle)
    return vector


def position(
    path: Path, *, form: Form = "qwen2", quant: str = "F32", pairing: Form | None = None, name: str = "position probe"
) -> Probe:
    """Write the position probe to ``path``.

    ``pairing`` writes the phases for the other form's pairs, as a reader with the wrong pairing would see the file:
    the echo is then lost, which shows that the probe can tell.

    facts: ``lag`` (3), ``period`` (4), ``alphabet``, ``rule``. The promise holds from the fourth prompt token on.
    """
    vocabulary, eos = alphabet.vocabulary("llama-bpe" if form == "llama" else "qwen2")
    heads = alphabet.WIDTH // HEAD
    query, key = phases(pairing or form, LAG), phases(pairing or form, 0)
    embeddings = alphabet.embeddings(len(vocabulary))
    layer = {"attn_output.weight": alphabet.attention_output(STRENGTH)}
    if form == "qwen2":  # through the biases that every qwen2 file has
        layer |= {"attn_q.bias": np.tile(query, heads), "attn_k.bias": key}
        norm = 1.0
    else:  # llama files have no biases: a constant direction in every embedding does the same
        constant = hadamard(alphabet.WIDTH)[0]
        embeddings = embeddings + constant
        norm = float(1 / np.sqrt(2))
        row = constant / np.float32(alphabet.WIDTH * norm)
        layer |= {"attn_q.weight": np.outer(np.tile(query, heads), row), "attn_k.weight": np.outer(key, row)}
    layer["attn_v.weight"] = alphabet.value_weight(norm)
    write(
        path,
        form=form,
        quant=quant,
        name=name,
        vocabulary=vocabulary,
        eos=eos,
        embeddings=embeddings,
        output=alphabet.readout(len(vocabulary), SCALE),
        layer=layer,
        rope_base=ROPE_BASE,
    )
    return promised(
        path,
        "position",
        vocabulary,
        eos,
        form=form,
        quant=quant,
        lag=LAG,
        period=LAG + 1,
        alphabet=alphabet.CHARACTERS,
        rule="each new token repeats the one four places before it: the prompt's last four, over and over",
    )
