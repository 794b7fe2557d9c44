import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from m0_models import vocabularies
from m0_models.bytelevel import byte_characters
from m0_worker.tokenizers import TokenizerError
from m0_worker.tokenizers.byte_bpe import ByteBpe
from made_source import Source, Spellings, made

MADE = {name: ByteBpe(made(name)) for name in vocabularies.BYTE_BPE}


def small(*merges: str, pre: str = "gpt-2", extra: tuple[str, ...] = (), **keys: object) -> ByteBpe:
    """256 byte tokens, one token per merge, then `extra`."""
    spellings = Spellings().add(*byte_characters(), *(merge.replace(" ", "") for merge in merges), *extra)
    return ByteBpe(spellings.source(merges=list(merges) or ["a b"], pre=pre, **keys))


def test_merges_go_by_rank() -> None:
    assert small("b c", "a b").encode("abc") == [ord("a"), 256]
    assert small("a b", "b c").encode("abc") == [256, ord("c")]
    assert small("a a", "aa a").encode("aaaaa") == [256, 257]


def test_the_first_of_two_equal_merges_counts() -> None:
    tokens = Spellings().add(*byte_characters(), "ab", "bc")
    assert ByteBpe(tokens.source(merges=["a b", "b c", "a b"], pre="gpt-2")).encode("abc") == [256, ord("c")]


def test_merges_stay_within_a_piece() -> None:
    assert small("a Ġ", "Ġ b").encode("a b") == [ord("a"), 257]


def test_whole_pieces_come_first_where_the_pre_tokenizer_says_so() -> None:
    assert small("l l", extra=("Ġhello",), pre="llama-bpe", add_bos_token=False).encode(" hello") == [257]
    assert small("l l", extra=("Ġhello",), pre="gpt-2").encode(" hello") != [257]


def test_a_merge_without_a_token_falls_back_to_its_characters() -> None:
    tokens = Spellings().add(*byte_characters())
    assert ByteBpe(tokens.source(merges=["a b"], pre="gpt-2")).encode("ab") == [ord("a"), ord("b")]


@pytest.mark.parametrize("name", vocabularies.BYTE_BPE)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80))
def test_every_text_comes_back(name: str, text: str) -> None:
    tokenizer = MADE[name]
    assert tokenizer.decode(tokenizer.encode(text, add_special=False, parse_special=False)) == text


@pytest.mark.parametrize("text", ["\t", "\x00", "é", "中", "😀", "\u0120", "a\u0300", "Ċ"])
def test_no_character_is_unknown(text: str) -> None:
    ids = MADE["qwen2"].encode(text)
    assert ids
    assert MADE["qwen2"].decode(ids) == text


def test_token_bytes() -> None:
    tokenizer = small("Ġ a", extra=("中",))
    assert [tokenizer.token_bytes(byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert tokenizer.token_bytes(256) == b" a"
    assert tokenizer.token_bytes(257) == "中".encode()


def test_control_tokens_are_no_text_and_user_defined_ones_are() -> None:
    tokenizer = MADE["qwen2"]
    ids = tokenizer.encode("a<|im_start|>b<tool_call>c")
    assert len(ids) == 5
    assert tokenizer.decode(ids) == "ab<tool_call>c"


def test_a_literal_control_token_is_one_id_only_on_request() -> None:
    tokenizer = MADE["qwen2"]
    assert len(tokenizer.encode("<|im_start|>")) == 1
    assert len(tokenizer.encode("<|im_start|>", parse_special=False)) > 3


def test_beginning_of_sequence_by_metadata_and_by_default() -> None:
    llama = MADE["llama-bpe"]
    assert llama.add_bos
    assert llama.encode("")[0] == llama.bos_id
    assert llama.encode("", add_special=False) == []
    assert not MADE["gpt-2"].add_bos
    assert not ByteBpe(made("llama-bpe", tokenizer__ggml__add_bos_token=False)).add_bos
    both = ByteBpe(made("qwen2", tokenizer__ggml__add_bos_token=True, tokenizer__ggml__add_eos_token=True))
    assert both.encode("") == [both.bos_id, both.eos_id]


def test_what_the_worker_shows() -> None:
    tokenizer = MADE["qwen2"]
    whole = vocabularies.make("qwen2").metadata
    assert tokenizer.kind == "gguf-bpe"
    assert tokenizer.vocab_size == len(whole["tokenizer.ggml.tokens"])  # type: ignore[arg-type]  # metadata is of any type
    assert tokenizer.eos_id == whole["tokenizer.ggml.eos_token_id"]
    assert tokenizer.eos_id in tokenizer.eog_ids
    assert tokenizer.model_max_context == 4096


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(TokenizerError, match="character 1 of the text is the lone surrogate U\\+D800"):
        MADE["qwen2"].encode("a\ud800")


def test_broken_utf8_becomes_a_replacement_character() -> None:
    tokenizer = small()
    assert tokenizer.decode([0xE4, 0xB8]) == "\ufffd"
    assert tokenizer.decode([0xE4, 0xB8, 0xAD, 0xFF, 0x41]) == "中\ufffdA"


@pytest.mark.parametrize(
    "text", ["x" * 32_768, "A" * 32_768, "word " * 6_554, "中" * 32_768, "<|im_start|>" * 2_730, " \n" * 16_384]
)
def test_the_longest_prompt_takes_less_than_a_second(text: str) -> None:
    for name in ("qwen2", "gpt-4o", "default"):
        started = time.process_time()
        MADE[name].encode(text)
        assert time.process_time() - started < 1.0, name


def test_a_full_cache_changes_nothing() -> None:
    tokenizer = ByteBpe(made("gpt-2"))
    words = " ".join(str(number) for number in range(17_000))
    first = tokenizer.encode(words)
    assert tokenizer.encode(words) == first
    assert len(tokenizer._cache) <= 16_384


def test_a_large_vocabulary_is_ready_at_once() -> None:
    count = 152_000
    tokens = [*byte_characters(), *(f"Ġtoken{number}" for number in range(count - 256))]
    source = Source(
        {
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [1] * count,
            "tokenizer.ggml.merges": [f"Ġ t{number}" for number in range(count - 256)],
            "tokenizer.ggml.pre": "qwen2",
        }
    )
    started = time.process_time()
    tokenizer = ByteBpe(source)
    assert time.process_time() - started < 0.5
    assert tokenizer.vocab_size == count
