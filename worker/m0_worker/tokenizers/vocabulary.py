"""The token list of a GGUF file: spellings, types and special ids; and finding special tokens in a string."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from m0_worker.tokenizers.base import TokenizerError, utf8
from m0_worker.tokenizers.end_rules import NAMED_KEYS, TokenType, end_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


_BYTE: Final = re.compile("<0x[0-9A-Fa-f]{2}>")
_C_SPACE: Final = " \t\n\v\f\r"


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A token that is found in the text before anything else is."""

    id: int
    spelling: str
    control: bool
    """Only found where the caller asked for special tokens to be parsed."""
    strips_right: bool
    """White space after it is dropped."""


class Vocabulary:
    """Spelling and type of each token of a GGUF file.

    Attributes:
        spellings: by id, as the file has them.
        ids: by spelling.
        irregular: the type of every token that is not NORMAL, after the rules on spellings.
        bos, eos, unknown: special ids, where the file or the kind of tokenizer has them.
        eog: ids that end a generation.
        specials: longest spelling first.

    Raises:
        TokenizerError: the metadata is missing, of the wrong type or contradicts itself.
    """

    def __init__(self, metadata: Mapping[str, object], *, defaults: Mapping[str, int], model_name: str) -> None:
        self.spellings = _spellings(metadata)
        self.ids = dict(zip(self.spellings, range(len(self.spellings)), strict=True))
        if len(self.ids) != len(self.spellings):
            raise TokenizerError(f"tokenizer.ggml.tokens: {_duplicate(self.spellings)}; each spelling must be unique")
        self.irregular = self._types(metadata)
        self._metadata = metadata
        self.bos = self._special_id("bos_token_id", defaults)
        self.eos = self._special_id("eos_token_id", defaults)
        self.unknown = self._special_id("unknown_token_id", defaults)
        named = {key: self._special_id(key, {}) for key in NAMED_KEYS}
        self.eog, retyped = end_rules(self.ids, {**named, "eos_token_id": self.eos})
        self.irregular.update(retyped)
        self._refuse_bytes_spelt_otherwise()
        self.specials = self._special_tokens(model_name.lower())

    def __len__(self) -> int:
        return len(self.spellings)

    def type_of(self, token: int) -> TokenType:
        """The type of a token.

        Raises:
            IndexError: no such token.
        """
        if not 0 <= token < len(self.spellings):
            raise IndexError(f"token {token} is outside the vocabulary of {len(self.spellings)} tokens")
        return self.irregular.get(token, TokenType.NORMAL)

    def flag(self, key: str, default: bool) -> bool:
        """A boolean `tokenizer.ggml.*` key."""
        value = self._metadata.get(f"tokenizer.ggml.{key}", default)
        if not isinstance(value, bool):
            raise TokenizerError(f"tokenizer.ggml.{key} is {value!r}, not a boolean")
        return value

    def _types(self, metadata: Mapping[str, object]) -> dict[int, TokenType]:
        types = number_list(metadata, "tokenizer.ggml.token_type", len(self.spellings), integers=True)
        if types is None:
            return {}
        known = {int(member): member for member in TokenType}
        return {
            token: known.get(int(code), TokenType.UNDEFINED)
            for token, code in enumerate(types[: len(self.spellings)])
            if code != TokenType.NORMAL
        }

    def _refuse_bytes_spelt_otherwise(self) -> None:
        for token, kind in self.irregular.items():
            if kind is TokenType.BYTE and not _BYTE.fullmatch(self.spellings[token]):
                raise TokenizerError(
                    f"tokenizer.ggml.token_type says that token {token} is a byte, but tokenizer.ggml.tokens spells it "
                    f"{self.spellings[token]!r:.60}, not <0xXX>; convert the model again"
                )

    def _special_id(self, key: str, defaults: Mapping[str, int]) -> int | None:
        value = self._metadata.get(f"tokenizer.ggml.{key}")
        if value is None:
            value = defaults.get(key)
            return value if value is not None and value < len(self.spellings) else None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(self.spellings):
            raise TokenizerError(
                f"tokenizer.ggml.{key} = {value!r} is no id of the vocabulary's {len(self.spellings)} tokens"
            )
        return value

    def _special_tokens(self, model_name: str) -> tuple[SpecialToken, ...]:
        phi3 = "phi-3" in model_name or "phi3" in model_name
        keeps_space = {"<unk>", "<s>", "<|endoftext|>"}
        found_first = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
        tokens = [
            SpecialToken(
                id=token,
                spelling=self.spellings[token],
                control=kind is not TokenType.USER_DEFINED,
                strips_right=phi3 and self.spellings[token] not in keeps_space,
            )
            for token, kind in self.irregular.items()
            if kind in found_first
        ]
        return tuple(sorted(tokens, key=lambda token: (-len(utf8(token.spelling)), token.id)))

    def partition(self, text: str, *, parse_special: bool) -> list[str | int]:
        """Cut the special tokens out of a string: a list of ids and the texts between them.

        The longest spelling is looked for first, in the whole text: not the same as the longest at each place.
        """
        fragments: list[str | int] = [text] if text else []
        for special in self.specials:
            if special.spelling in text and (parse_special or not special.control):
                fragments = list(_cut_out(fragments, special))
        return fragments


def _cut_out(fragments: Iterable[str | int], special: SpecialToken) -> Iterable[str | int]:
    for fragment in fragments:
        if isinstance(fragment, int):
            yield fragment
            continue
        start = 0
        while (at := fragment.find(special.spelling, start)) >= 0:
            if at > start:
                yield fragment[start:at]
            yield special.id
            start = at + len(special.spelling)
            while special.strips_right and start < len(fragment) and fragment[start] in _C_SPACE:
                start += 1
        if start < len(fragment):
            yield fragment[start:]


def _spellings(metadata: Mapping[str, object]) -> list[str]:
    value = metadata.get("tokenizer.ggml.tokens")
    if value is None:
        raise TokenizerError("tokenizer.ggml.tokens is missing: the file holds no vocabulary")
    if not isinstance(value, list) or not value or not isinstance(value[0], str):
        raise TokenizerError("tokenizer.ggml.tokens is no array of strings")
    spellings = cast("list[str]", value)
    if "" in spellings:  # a nameless token keeps its id under a name that no text can be merged into
        spellings = [spelling or f"[EMPTY_{token}]" for token, spelling in enumerate(spellings)]
    return spellings


def _duplicate(spellings: Sequence[str]) -> str:
    first: dict[str, int] = {}
    for token, spelling in enumerate(spellings):
        if spelling in first:
            return f"{spelling!r} is both token {first[spelling]} and token {token}"
        first[spelling] = token
    return "no duplicate"


def number_list(
    metadata: Mapping[str, object], key: str, length: int, *, integers: bool = False
) -> Sequence[float] | None:
    """An optional array of numbers, at least `length` long; `integers` have no fraction.

    Raises:
        TokenizerError: the key holds something else, or too few numbers, or one that is not a number.
    """
    value = metadata.get(key)
    if value is None:
        return None
    # All elements of an array in a GGUF file are of one type.
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, bool) or not isinstance(first, int if integers else int | float):
        raise TokenizerError(f"{key} is {value!r:.60}, not an array of {'integers' if integers else 'numbers'}")
    numbers = cast("Sequence[float]", value)
    if len(numbers) < length:
        raise TokenizerError(f"{key} holds {len(numbers)} numbers for {length} tokens")
    if not integers and any(map(math.isnan, numbers)):
        raise TokenizerError(f"{key} holds a NaN for token {next(i for i, x in enumerate(numbers) if math.isnan(x))}")
    return numbers
