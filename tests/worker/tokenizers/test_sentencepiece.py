import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from m0_worker.tokenizers import TokenizerError
from m0_worker.tokenizers.sentencepiece import SPACE_MARK as S
from m0_worker.tokenizers.sentencepiece import SentencePiece
from made_source import Spellings, made

UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6
SPM, PHI3 = SentencePiece(made("spm")), SentencePiece(made("phi-3"))


def small(*scored: tuple[str, float], **keys: object) -> SentencePiece:
    """<unk> <s> </s>, 256 byte tokens, then tokens with scores."""
    spellings = Spellings("llama").add("<unk>", kind=UNKNOWN).add("<s>", "</s>", kind=CONTROL)
    spellings.add(*(f"<0x{byte:02X}>" for byte in range(256)), kind=BYTE)
    for spelling, score in scored:
        spellings.add(spelling, score=score)
    return SentencePiece(spellings.source(**keys))


def pieces(tokenizer: SentencePiece, text: str) -> list[str]:
    return [tokenizer.vocabulary.spellings[token] for token in tokenizer.encode(text, add_special=False)]


def test_the_highest_score_is_joined_first() -> None:
    assert pieces(small(("ab", -2.0), ("bc", -1.0), ("a", -9.0), ("c", -9.0)), "abc")[-2:] == ["a", "bc"]
    assert pieces(small(("ab", -1.0), ("bc", -2.0), ("a", -9.0), ("c", -9.0)), "abc")[-2:] == ["ab", "c"]


def test_the_leftmost_of_equal_scores_is_joined_first() -> None:
    assert pieces(small(("aa", -1.0), ("a", -2.0)), "aaa")[-2:] == ["aa", "a"]


def test_a_space_is_put_before_the_text_and_after_special_tokens() -> None:
    tokenizer = small((S, -1.0), ("a", -1.0), (f"{S}a", -0.5))
    assert pieces(tokenizer, "a") == [f"{S}a"]
    assert pieces(tokenizer, "a<s>a") == [f"{S}a", "<s>", f"{S}a"]
    assert pieces(small((S, -1.0), ("a", -1.0), add_space_prefix=False), "a") == ["a"]


def test_unknown_characters_become_bytes() -> None:
    assert pieces(small((S, -1.0)), "é") == [S, "<0xC3>", "<0xA9>"]


def test_without_byte_tokens_they_become_the_unknown_token() -> None:
    spellings = Spellings("llama").add("<unk>", kind=UNKNOWN).add("<s>", "</s>", kind=CONTROL).add(S, "a")
    assert pieces(SentencePiece(spellings.source()), "aé") == [S, "a", "<unk>", "<unk>"]


def test_without_an_unknown_token_either_it_is_an_error() -> None:
    tokenizer = SentencePiece(Spellings("llama").add("a", S).source(add_bos_token=False, unknown_token_id=None))
    tokenizer.vocabulary.unknown = None
    with pytest.raises(TokenizerError, match="byte 0xC3"):
        tokenizer.encode("é")


def test_beginning_of_sequence_is_the_default() -> None:
    assert small((S, -1.0)).encode("") == [1]
    assert small((S, -1.0), add_eos_token=True).encode("") == [1, 2]
    assert PHI3.encode("") == []


def test_token_bytes() -> None:
    tokenizer = small((f"{S}a{S}", -1.0))
    assert [tokenizer.token_bytes(3 + byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert tokenizer.token_bytes(259) == b" a "
    assert [tokenizer.token_bytes(token) for token in range(3)] == [b"", b"", b""]


def test_a_byte_token_with_another_spelling_is_refused() -> None:
    spellings = Spellings("llama").add("<unk>", kind=UNKNOWN).add("<s>", "</s>", kind=CONTROL).add("0x41", kind=BYTE)
    with pytest.raises(TokenizerError, match="spells it '0x41', not <0xXX>"):
        SentencePiece(spellings.source()).token_bytes(3)


@pytest.mark.parametrize("tokenizer", [SPM, PHI3])
@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=80).filter(lambda text: S not in text))
def test_every_text_comes_back(tokenizer: SentencePiece, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, parse_special=False)) == text


def test_phi3_chat() -> None:
    ids = PHI3.encode("<|user|>\nHello <|end|>\n<|assistant|>\n")
    spellings = [PHI3.vocabulary.spellings[token] for token in ids]
    assert spellings[0] == "<|user|>"
    assert spellings[-2:] == ["<|end|>", "<|assistant|>"]
    assert "\n" not in "".join(spellings)
    assert PHI3.eos_id in PHI3.eog_ids
    assert PHI3.vocabulary.ids["<|end|>"] in PHI3.eog_ids


@pytest.mark.parametrize("text", ["x" * 32_768, "word " * 6_554, "中" * 32_768, " " * 32_768])
def test_the_longest_prompt_takes_less_than_a_second(text: str) -> None:
    started = time.process_time()
    PHI3.encode(text)
    assert time.process_time() - started < 1.0
