"""Where two greedy texts part, and by how little the logits preferred one."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m0_parity.llamacpp import Context, Model, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from m0_parity.http.client import Generated


@dataclass(frozen=True, slots=True)
class Parting:
    """The first token at which two texts differ: its index, and each side's text there, None where a side had ended."""

    index: int
    a: str | None
    b: str | None


def parting(a: Generated, b: Generated) -> Parting | None:
    """Where the two part; None where their texts are the same, also if their tokens let them out in other pieces."""
    if a.text == b.text:
        return None
    for index in range(min(len(a.texts), len(b.texts))):
        if a.texts[index] != b.texts[index]:
            return Parting(index, a.texts[index], b.texts[index])
    index = min(len(a.texts), len(b.texts))
    return Parting(index, *(side.texts[index] if len(side.texts) > index else None for side in (a, b)))


@dataclass(frozen=True, slots=True)
class Margin:
    """llama.cpp's opinion at a parting.

    Attributes:
        preferred: "A", "B", or the text of the token that llama.cpp would have taken instead of both.
        logits: how much higher the logit of the likelier of the two tokens is.
    """

    preferred: str
    logits: float


class Oracle:
    """llama.cpp on the same file, to say how close a decision was.

    Raises:
        ReferenceUnavailableError: llama.cpp is not installed or does not load the file.
    """

    def __init__(self, path: Path) -> None:
        self._model = Model(path)
        self._pieces = [self._model.piece(token) for token in range(self._model.n_vocab)]

    def margin(self, prompt: str, common: Sequence[str], part: Parting) -> Margin | None:
        """The margin after `common`, what both said before they parted; None where no token has such a string.

        A string is put down to the likeliest token that lets it out, given the bytes that wait for their character.
        """
        tokens = self._model.tokenize(prompt, add_special=True)
        waiting = b""
        with Context(self._model, len(tokens) + len(common) + 1, Settings(kv="f16")) as context:
            logits = context.decode(tokens, every=False)[-1]
            for text in common:
                token = self._likeliest(logits, waiting, text)
                if token is None:
                    return None
                waiting = _let_out(waiting, self._pieces[token])[1]
                logits = context.decode([token])[-1]
        a, b = (self._likeliest(logits, waiting, text) for text in (part.a, part.b))
        if a is None or b is None:
            return None
        top = int(logits.argmax())
        preferred = "A" if top == a else "B" if top == b else self._pieces[top].decode(errors="replace")
        return Margin(preferred, abs(float(logits[a]) - float(logits[b])))

    def _likeliest(self, logits: npt.NDArray[np.float32], waiting: bytes, text: str | None) -> int | None:
        """The likeliest token that lets this text out; for None, the likeliest that ends the job."""
        for token in np.argsort(-logits).tolist():
            ends = self._model.is_end(token)
            if ends if text is None else not ends and _let_out(waiting, self._pieces[token])[0] == text:
                return int(token)
        return None

    def close(self) -> None:
        """Free the model."""
        self._model.close()


def _let_out(waiting: bytes, piece: bytes) -> tuple[str, bytes]:
    """The characters that a token's bytes complete, as M0-W-1362 lets them out, and the bytes that still wait."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(waiting + piece)
    return text, decoder.getstate()[0]
