"""The 64 characters that the attention probes can tell apart, and the orthogonal rows that carry them.

A character has a row that says "this token is c" (its embedding) and another that says "attention saw c" (what the
attention block adds); the output matrix reads the second kind, so the next token is what attention saw.
"""

from __future__ import annotations

import string
from typing import Final

import numpy as np

from m0_models.bytelevel import Vocabulary
from m0_models.probes.form import HEAD, Floats, hadamard

CHARACTERS: Final = string.ascii_lowercase + string.ascii_uppercase + string.digits + " ?"
"""64 single-byte tokens; every other token counts as "?"."""
WIDTH: Final = 256
OTHER: Final = CHARACTERS.index("?")


def vocabulary(pre: str) -> tuple[Vocabulary, int]:
    """Bytes, one merge (llama.cpp wants some; none of its tokens is in CHARACTERS) and an end of sequence."""
    made = Vocabulary(pre=pre)
    made.merge(b"[", b"]")
    return made, made.control("<|endoftext|>")


def codes(size: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """The character number of each token id."""
    numbers = np.full(size, OTHER, dtype=np.intp)
    for number, character in enumerate(CHARACTERS):
        numbers[ord(character)] = number
    return numbers


def embeddings(size: int) -> Floats:
    """(size, WIDTH): row 1 + c of the Hadamard matrix for character c. Row 0, all ones, stays free."""
    return hadamard(WIDTH)[1 + codes(size)]


def value_weight(norm: float) -> Floats:
    """(HEAD, WIDTH): maps an embedding that the norm scaled by ``norm`` to the one-hot code of its character."""
    return hadamard(WIDTH)[1 : 1 + HEAD] / np.float32(WIDTH * norm)


def attention_output(strength: float) -> Floats:
    """(WIDTH, heads * HEAD): writes what head 0 saw, times ``strength``, into the "attention saw" rows."""
    weight = np.zeros((WIDTH, WIDTH), dtype=np.float32)
    weight[:, :HEAD] = hadamard(WIDTH)[1 + HEAD : 1 + 2 * HEAD].T * strength
    return weight


def readout(size: int, scale: float) -> Floats:
    """(size, WIDTH): logit of a character's token = ``scale`` times the normed strength of "attention saw" it."""
    output = np.zeros((size, WIDTH), dtype=np.float32)
    for number, character in enumerate(CHARACTERS):
        output[ord(character)] = hadamard(WIDTH)[1 + HEAD + number] * np.float32(scale / WIDTH)
    return output
