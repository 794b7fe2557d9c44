"""The 64 letters that the attention probes can tell apart, and the orthogonal rows that carry them.

A letter has a row that says "this token is c" (its embedding) and another that says "attention saw c" (what the
attention block adds); the output matrix reads the second kind, so the next token is what attention saw. Letters are
single characters in a vocabulary of our own, and words with a leading space in a file's, where characters are merged.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from m0_models.found import Found
from m0_models.probes.form import vocabulary_for
from m0_models.probes.parts import HEAD, Floats, Index, Rows, hadamard

if TYPE_CHECKING:
    from m0_models.bytelevel import Vocabulary
    from m0_models.probes.likeness import Likeness
    from m0_models.probes.parts import Form

CHARACTERS: Final = string.ascii_lowercase + string.ascii_uppercase + string.digits + " ?"
"""64 single-byte tokens; every other token counts as "?"."""
WIDTH: Final = 256
OTHER: Final = CHARACTERS.index("?")


@dataclass(frozen=True, slots=True)
class Alphabet:
    """Letters of a vocabulary.

    Attributes:
        vocabulary: that says them.
        eos: its end of sequence.
        letters: their texts; every other token counts as the last one.
        ids: their tokens.
    """

    vocabulary: Vocabulary
    eos: int
    letters: list[str]
    ids: list[int]

    def codes(self) -> Index:
        """(vocabulary,) the letter number of each token."""
        numbers = np.full(len(self.vocabulary), len(self.letters) - 1, dtype=np.intp)
        numbers[self.ids] = np.arange(len(self.ids))
        return numbers

    def embeddings(self, *, constant: bool = False) -> Rows:
        """(vocabulary, WIDTH): row 1 + c of the Hadamard matrix for letter c, plus row 0, all ones, if ``constant``."""
        table = hadamard(WIDTH)[1 : 1 + len(self.letters)]
        return Rows(table + hadamard(WIDTH)[0] if constant else table, self.codes())

    def readout(self, scale: float) -> Rows:
        """(vocabulary, WIDTH): a letter's logit = ``scale`` times the normed strength of "attention saw" it."""
        table = np.zeros((1 + len(self.letters), WIDTH), dtype=np.float32)
        table[1:] = hadamard(WIDTH)[1 + HEAD : 1 + HEAD + len(self.letters)] * np.float32(scale / WIDTH)
        index = np.zeros(len(self.vocabulary), dtype=np.intp)
        index[self.ids] = 1 + np.arange(len(self.ids))
        return Rows(table, index)


def alphabet(form: Form, like: Likeness | None, *, spm: bool) -> Alphabet:
    """The letters for a file of this form.

    Raises:
        Unsayable: the file's vocabulary has too few words.
    """
    vocabulary = vocabulary_for(form, like, spm=spm)
    if isinstance(vocabulary, Found):
        ids = vocabulary.words(len(CHARACTERS), ())
        return Alphabet(vocabulary, vocabulary.end(), [vocabulary.text[token].decode() for token in ids], ids)
    vocabulary.merge(b"[", b"]")  # llama.cpp wants some merge; none of its tokens is a letter
    return Alphabet(vocabulary, vocabulary.end(), list(CHARACTERS), [vocabulary.byte(ord(c)) for c in CHARACTERS])


def value_weight(norm: float) -> Floats:
    """(HEAD, WIDTH): maps an embedding that the norm scaled by ``norm`` to the one-hot code of its letter."""
    return hadamard(WIDTH)[1 : 1 + HEAD] / np.float32(WIDTH * norm)


def attention_output(strength: float) -> Floats:
    """(WIDTH, HEAD): writes what the head saw, times ``strength``, into the "attention saw" rows."""
    return hadamard(WIDTH)[1 + HEAD : 1 + 2 * HEAD].T * np.float32(strength)
