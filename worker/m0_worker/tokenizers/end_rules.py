"""Which tokens end a generation, and which types spellings imply.

Model files often leave out what ends a generation, or type a control token as ordinary text. The rules are
llama.cpp's: the set of end tokens is guessed from spellings, and tokens that look like control tokens become such.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


# Spellings that end a generation in one model family or another.
_END_SPELLINGS: Final = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[e~[",
)  # fmt: skip

# Fill-in-the-middle roles: metadata key, the spellings tried where the file names no id, and whether the role ends a
# generation.
_FILL_ROLES: Final = (
    ("fim_pre_token_id", False, ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "\u2581<PRE>")),
    ("fim_suf_token_id", False, ("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "\u2581<SUF>")),
    ("fim_mid_token_id", False, ("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "\u2581<MID>")),
    ("fim_pad_token_id", True, ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]")),
    ("fim_rep_token_id", True, ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>")),
    ("fim_sep_token_id", True, ("<|file_sep|>",)),
)

# gpt-oss (harmony format): structure that a client wants to read, so it is shown as text.
_HARMONY_TEXT: Final = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")

# Metadata keys (below tokenizer.ggml.) that name a token directly.
NAMED_KEYS: Final = ("eot_token_id", "eom_token_id", *(key for key, _, _ in _FILL_ROLES))

# Every spelling a rule looks at.
RULED_SPELLINGS: Final = frozenset(
    (*_END_SPELLINGS, *_HARMONY_TEXT, *(spelling for _, _, spellings in _FILL_ROLES for spelling in spellings))
)


def end_rules(ids: Mapping[str, int], named: Mapping[str, int | None]) -> tuple[frozenset[int], dict[int, TokenType]]:
    """The ids that end a generation, and the types that differ from what the file says.

    Args:
        ids: id by spelling, of `RULED_SPELLINGS` at least.
        named: ids that metadata names, by key: `eos_token_id` and `NAMED_KEYS`.
    """
    ends = {ids[spelling] for spelling in _END_SPELLINGS if spelling in ids}
    retyped = dict.fromkeys(ends, TokenType.CONTROL)
    for key, is_end, spellings in _FILL_ROLES:
        token = named.get(key)
        if token is None:
            token = next((ids[spelling] for spelling in spellings if spelling in ids), None)
            if token is None:
                continue
            retyped[token] = TokenType.CONTROL
        if is_end:
            ends.add(token)
    retyped.update((ids[spelling], TokenType.USER_DEFINED) for spelling in _HARMONY_TEXT if spelling in ids)
    for key in ("eos_token_id", "eot_token_id", "eom_token_id"):
        if (token := named.get(key)) is not None:
            ends.add(token)

    def ending(*spellings: str) -> bool:
        return any(ids.get(spelling) in ends for spelling in spellings)

    closes_one_message_of_several = ending("<|call|>", "<|calls|>") and ending("<|return|>", "<|flush|>")
    if closes_one_message_of_several and ending("<|end|>"):
        ends.discard(ids["<|end|>"])
        retyped[ids["<|end|>"]] = TokenType.USER_DEFINED
    return frozenset(ends), retyped
