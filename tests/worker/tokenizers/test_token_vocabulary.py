"""What spellings and types imply, and how special tokens are found."""

import pytest
from m0_worker.tokenizers import TokenizerError
from m0_worker.tokenizers.byte_bpe import ByteBpe
from m0_worker.tokenizers.end_rules import TokenType
from m0_worker.tokenizers.sentencepiece import SentencePiece
from m0_worker.tokenizers.vocabulary import Vocabulary
from made_source import Spellings

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def vocabulary(spellings: Spellings, *, name: str = "made", **keys: object) -> Vocabulary:
    return Vocabulary(spellings.source(**keys).metadata, defaults={}, model_name=name)


def ends(*spellings: str, kind: int = CONTROL, **keys: object) -> set[str]:
    made = vocabulary(Spellings().add("a", "b").add(*spellings, kind=kind), **keys)
    return {made.spellings[token] for token in made.eog}


def test_ends_are_found_by_id() -> None:
    assert ends("x", "y", "z", eos_token_id=2, eot_token_id=3, eom_token_id=4) == {"x", "y", "z"}


def test_ends_are_found_by_spelling() -> None:
    assert ends("<|im_start|>", "<|im_end|>", "<|endoftext|>") == {"<|im_end|>", "<|endoftext|>"}
    assert ends("<|eot_id|>", "<|eom_id|>", "<|start_header_id|>") == {"<|eot_id|>", "<|eom_id|>"}
    assert ends("<s>", "</s>", "<end_of_turn>") == {"</s>", "<end_of_turn>"}


def test_fill_in_the_middle_padding_ends_too() -> None:
    assert ends("<|fim_prefix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>") == {
        "<|fim_pad|>",
        "<|repo_name|>",
        "<|file_sep|>",
    }
    assert ends("<|fim_pad|>", "other", fim_pad_token_id=3) == {"other"}


def test_end_of_a_message_ends_phi3_but_not_gpt_oss() -> None:
    assert ends("<|end|>") == {"<|end|>"}
    assert ends("<|end|>", "<|return|>") == {"<|end|>", "<|return|>"}
    assert ends("<|end|>", "<|return|>", "<|call|>") == {"<|return|>", "<|call|>"}


def test_gpt_oss_structure_is_text() -> None:
    made = vocabulary(Spellings().add("<|start|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>", kind=CONTROL))
    kinds = [made.type_of(token) for token in range(5)]
    assert kinds == [TokenType.USER_DEFINED] * 3 + [TokenType.CONTROL] * 2


def test_tokens_that_look_like_control_tokens_become_such() -> None:
    made = vocabulary(Spellings().add("<|im_end|>", "<|fim_prefix|>", "<|im_start|>"))
    assert [made.type_of(token) for token in range(3)] == [TokenType.CONTROL, TokenType.CONTROL, TokenType.NORMAL]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tokens": None}, r"tokenizer\.ggml\.tokens is missing"),
        ({"tokens": []}, "no array of strings"),
        ({"tokens": "abc"}, "no array of strings"),
        ({"tokens": ["a", "b", "a"]}, "'a' is both token 0 and token 2"),
        ({"token_type": [1]}, "holds 1 numbers for 2 tokens"),
        ({"token_type": "normal"}, "not an array of integers"),
        ({"bos_token_id": 2}, r"bos_token_id = 2 is no id of the vocabulary's 2 tokens"),
        ({"eos_token_id": -1}, "eos_token_id = -1"),
        ({"eot_token_id": "b"}, "eot_token_id = 'b'"),
        ({"add_bos_token": 1}, "add_bos_token is 1, not a boolean"),
        ({"add_bos_token": True}, r"tokenizer\.ggml\.bos_token_id is missing"),
        ({"merges": None}, r"tokenizer\.ggml\.merges is missing"),
        ({"pre": "unheard-of"}, "'unheard-of' is an unknown pre-tokenizer"),
        ({"pre": 7}, "not a string"),
    ],
)
def test_broken_metadata_is_refused_by_key(keys: dict[str, object], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        ByteBpe(Spellings().add("a", "b").source(**keys))


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"scores": None}, r"tokenizer\.ggml\.scores is missing"), ({"scores": [0.0]}, "holds 1 numbers for 2 tokens")],
)
def test_sentencepiece_needs_scores(keys: dict[str, object], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        SentencePiece(Spellings("llama").add("a", "b").source(add_bos_token=False, **keys))


def test_a_nameless_token_keeps_its_id() -> None:
    made = vocabulary(Spellings().add("a", "", "b"))
    assert made.spellings == ["a", "[EMPTY_1]", "b"]


def parts(made: Vocabulary, text: str, *, parse_special: bool = True) -> list[str | int]:
    return made.partition(text, parse_special=parse_special)


def test_control_tokens_are_found_on_request_and_user_defined_ones_always() -> None:
    made = vocabulary(Spellings().add("<c>", kind=CONTROL).add("<u>", kind=USER_DEFINED).add("<n>"))
    assert parts(made, "a<c>b<u><n>") == ["a", 0, "b", 1, "<n>"]
    assert parts(made, "a<c>b<u><n>", parse_special=False) == ["a<c>b", 1, "<n>"]
    assert parts(made, "<c><c>") == [0, 0]
    assert parts(made, "") == []


def test_the_longest_spelling_wins_in_the_whole_text() -> None:
    made = vocabulary(Spellings().add("ab", "bcd", "a", kind=CONTROL))
    assert parts(made, "abcd") == [2, 1]


def test_phi3_drops_white_space_after_special_tokens() -> None:
    spellings = Spellings().add("<|user|>", "</s>", "<|endoftext|>", kind=CONTROL)
    assert parts(vocabulary(spellings, name="Phi-3-mini"), "<|user|> \n x</s> <|endoftext|> y") == [0, "x", 1, 2, " y"]
    assert parts(vocabulary(spellings, name="Phi-3-mini"), "<|user|> \u00a0x") == [0, "\u00a0x"]
    assert parts(vocabulary(spellings, name="llama"), "<|user|>  x") == [0, "  x"]


def test_a_token_outside_the_vocabulary() -> None:
    made = vocabulary(Spellings().add("a", "b"))
    for token in (-1, 2, 1 << 40):
        with pytest.raises(IndexError, match="outside the vocabulary of 2 tokens"):
            made.type_of(token)
