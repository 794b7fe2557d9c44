from __future__ import annotations

import pytest
from m0_worker.errors import OutOfMemory
from m0_worker.generation import Ending, StopReason, generate
from scripted_model import EOS, ByteTokenizer, ScriptedModel, request, run


def test_one_text_a_token_and_the_end_of_sequence_is_none() -> None:
    model = ScriptedModel(b"abc")
    assert run(model) == (["a", "b", "c"], Ending(StopReason.EOS))
    assert (model.opened, model.closed) == (1, 1)


def test_max_tokens_ends_without_a_superfluous_step() -> None:
    model = ScriptedModel(b"abcdef")
    assert run(model, max_tokens=3) == (["a", "b", "c"], Ending(StopReason.MAX_TOKENS))
    assert model.launched == 2  # the first token comes out of the prefill
    assert model.positions == 3  # prompt 1, fed back 2: the third token is never fed


def test_end_of_sequence_at_once() -> None:
    assert run(ScriptedModel([])) == ([], Ending(StopReason.EOS))


def test_the_next_step_is_launched_before_a_text_is_handed_out() -> None:
    model = ScriptedModel(b"abc")
    steps = generate(model, ByteTokenizer(), request())
    texts = 0
    for text in steps:
        if text is not None:
            texts += 1
            assert model.launched == texts
    assert texts == 3


def test_a_character_of_single_byte_tokens_comes_with_its_last_byte() -> None:
    assert run(ScriptedModel("é😀".encode()))[0] == ["", "é", "", "", "", "😀"]


def test_an_incomplete_character_at_the_end_is_dropped() -> None:
    assert run(ScriptedModel(b"a\xe2\x82")) == (["a", "", ""], Ending(StopReason.EOS))
    assert run(ScriptedModel(b"a\xe2\x82\xac"), max_tokens=3)[0] == ["a", "", ""]


def test_a_stop_string_across_tokens_is_cut_out() -> None:
    texts, ending = run(ScriptedModel(b"xENDy"), stop=("END",))
    assert (texts, ending) == (["x", "", "", ""], Ending(StopReason.STOP_SEQUENCE, "END"))


def test_a_stop_string_inside_a_token_cuts_the_token() -> None:
    tokenizer = ByteTokenizer([b"one STOP two"])
    assert run(ScriptedModel([256]), tokenizer, stop=("STOP",))[0] == ["one "]


def test_half_a_stop_string_before_the_end_of_sequence_belongs_to_the_last_token() -> None:
    assert run(ScriptedModel(b"xEN"), stop=("END",)) == (["x", "", "EN"], Ending(StopReason.EOS))


def test_half_a_stop_string_at_max_tokens_belongs_to_the_last_token() -> None:
    assert run(ScriptedModel(b"xENDy"), stop=("END",), max_tokens=3)[0] == ["x", "", "EN"]


def test_half_a_stop_string_that_goes_on_differently_is_let_through() -> None:
    assert run(ScriptedModel(b"xENx"), stop=("END",))[0] == ["x", "", "", "ENx"]


def test_half_a_stop_string_before_an_incomplete_character_is_not_lost() -> None:
    texts, _ = run(ScriptedModel(b"E\xe2\x82"), stop=("END",))
    assert ("".join(texts), len(texts)) == ("E", 3)


def test_the_context_ends_a_generation_and_no_position_is_used_twice() -> None:
    model = ScriptedModel(b"abcdefghij", n_ctx=5)
    texts, ending = run(model, prompt_tokens=(1, 2, 3))
    # 3 prompt positions, 2 more fed back, and the token that the last of them gives.
    assert (texts, ending) == (["a", "b", "c"], Ending(StopReason.CONTEXT_LENGTH))
    assert model.positions == 5


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 10])
def test_a_device_always_has_as_many_steps_lined_up_as_it_can(depth: int, max_tokens: int) -> None:
    model = ScriptedModel(b"abcdef", depth=depth)
    texts, _ = run(model, max_tokens=max_tokens)
    assert "".join(texts) == "abcdef"[:max_tokens]
    # Behind a sixth token that is not the last, `depth` more are under way: one is the end that the model makes, and
    # those behind it were for nothing. Never more than may be written: the cache has no room for them.
    assert model.launched == min(max_tokens - 1, 5 + depth)


def test_a_prompt_as_long_as_the_context_gives_one_token() -> None:
    texts, ending = run(ScriptedModel(b"ab", n_ctx=3), prompt_tokens=(1, 2, 3))
    assert (texts, ending) == (["a"], Ending(StopReason.CONTEXT_LENGTH))


def test_max_tokens_that_just_fit_the_context_are_not_its_end() -> None:
    assert run(ScriptedModel(b"abcdef", n_ctx=3), max_tokens=3)[1].reason is StopReason.MAX_TOKENS


def test_a_kv_cache_beyond_the_limit_is_out_of_memory_before_anything_is_opened() -> None:
    model = ScriptedModel(b"abc", bytes_per_position=10)
    with pytest.raises(OutOfMemory) as raised:
        run(model, kv_limit=100, max_tokens=50)
    assert (raised.value.needed, raised.value.available, model.opened) == (500, 100, 0)
    assert run(model, kv_limit=100, max_tokens=10)[0] == ["a", "b", "c"]


def test_closing_a_generation_anywhere_frees_the_job() -> None:
    for steps_taken in range(1, 8):
        model = ScriptedModel([*b"abc", EOS])
        steps = generate(model, ByteTokenizer(), request())
        for _ in range(steps_taken):
            next(steps)
        steps.close()
        assert (model.opened, model.closed) == (1, 1)
