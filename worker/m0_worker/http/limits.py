"""What a request may ask for: M0-W-1300's limits, and those that the loaded model and the command line add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BODY = 4 * 1024 * 1024  # bytes; a 32,768-character prompt, every character escaped, is a tenth of it
MAX_PROMPT = 32_768  # code points (reading E-CHARS)
MAX_JOB_ID = 1024  # code points; it is in every log line of a job
MAX_STOPS = 4
MAX_STOP_TOKENS = 32
# The longest tokens of real vocabularies are runs of 256 spaces: what is longer is refused without being tokenized.
MAX_STOP = MAX_STOP_TOKENS * 256
MAX_SEED = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that depend on the model and on the command line.

    Attributes:
        vocab_size: upper bound of top_k.
        logit_rows: rows of the model's output, of which those from vocab_size on are padding.
        max_tokens_in: longest prompt in tokens.
        max_tokens_out: upper bound of max_tokens, and its default.
        encode: text to tokens, with the special tokens that the model puts around a prompt or without.
    """

    vocab_size: int
    logit_rows: int
    max_tokens_in: int
    max_tokens_out: int
    encode: Callable[[str, bool], list[int]]
