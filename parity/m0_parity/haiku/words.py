"""Words to ask for, and the request that asks: the client chooses at random, so no answer can be prepared."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

WORDS: Final = tuple(files(__package__).joinpath("words.txt").read_text(encoding="ascii").split())
"""Common nouns, one or two syllables most of them."""


def prompt(word: str, nonce: str, *, chat: bool) -> str:
    """The request for a haiku with ``word``; ``nonce`` makes every request new and must not come back.

    ``chat`` puts it into the turns that models trained on ChatML expect: M0 leaves the template to the client (E-CHAT).
    """
    asked = f'Write a haiku about the {word}. It must contain the words "the {word}".'
    if not chat:
        return f"Request {nonce}. {asked}\n\n"
    system = f"You are a poet. Request {nonce}."
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"


def draw(source: random.Random) -> tuple[str, str]:
    """A word and a nonce."""
    return source.choice(WORDS), f"{source.getrandbits(32):08x}"


def has_word(text: str, word: str) -> bool:
    """Whether ``word`` stands in ``text`` as a whole word, in any case."""
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def lines(text: str) -> int:
    """Lines that hold something."""
    return sum(1 for line in text.splitlines() if line.strip())
