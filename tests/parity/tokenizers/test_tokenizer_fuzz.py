"""The fuzzer, both ways: our tokenizers are equal to llama.cpp's, and a wrong one is found and its text shrunk."""

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from m0_models import bytelevel, vocabularies
from m0_parity.llamacpp import library
from m0_parity.tokenizers.fuzz import (
    BACKENDS,
    Case,
    Pair,
    cases,
    comes_back,
    decoding_that_differs,
    differs,
    fuzz,
    opened,
    opened_file,
    pieces_that_differ,
    shrink,
)
from m0_worker.tokenizers import unicode_classes
from m0_worker.tokenizers.byte_bpe import ByteBpe
from m0_worker.tokenizers.patterns import Exact
from m0_worker.tokenizers.pretokenizers import PRE_TOKENIZERS, Splitter
from m0_worker.tokenizers.sentencepiece import SentencePiece

# Names without special tokens of their own share a rule with others, most of them; of some, llama.cpp compiles the
# pattern anew each time.
COUNTS = dict.fromkeys(BACKENDS, 200) | dict.fromkeys((*vocabularies.NAMES, "deepseek-llm", "deepseek-coder"), 600)
COUNTS["gpt-4o"] = 200
CASCADES = {rule.patterns: name for name, rule in PRE_TOKENIZERS.items()}


@pytest.fixture(scope="module", params=BACKENDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with opened(request.param) as opened_pair:
        yield opened_pair


def test_ids_are_equal(pair: Pair) -> None:
    mismatch = fuzz(pair, COUNTS[pair.name], seed=20_251)
    assert mismatch is None, mismatch.describe() if mismatch else ""


def test_pieces_are_equal(pair: Pair) -> None:
    assert pieces_that_differ(pair) == []


def test_random_ids_decode_equally(pair: Pair) -> None:
    assert decoding_that_differs(pair, 300, seed=20_251) is None


def test_special_ids_are_equal(pair: Pair) -> None:
    lib, vocab = library(), pair.reference._vocab
    ends = {token for token in range(pair.reference.n_vocab) if lib.llama_vocab_is_eog(vocab, token)}
    assert pair.ours.eog_ids == ends
    assert pair.ours.bos_id == lib.llama_vocab_bos(vocab)
    assert pair.ours.eos_id == lib.llama_vocab_eos(vocab)
    assert pair.ours.add_bos == lib.llama_vocab_get_add_bos(vocab)
    assert pair.ours.vocab_size == pair.reference.n_vocab


def test_every_character_has_the_class_llama_cpp_gives_it() -> None:
    flags_of = library()._Z26unicode_cpt_flags_from_cptj
    flags_of.restype, flags_of.argtypes = ctypes.c_uint16, [ctypes.c_uint32]
    classes = {0x02: unicode_classes.NUMBER, 0x04: unicode_classes.LETTER, 0x20: unicode_classes.PUNCTUATION}
    codes = [code for code in range(0x80, 0x110000) if not 0xD800 <= code < 0xE000]
    ours = unicode_classes.collapse("".join(map(chr, codes)))
    flags = map(flags_of, codes)
    theirs = [unicode_classes.SPACE if f & 0x100 else classes.get(f & 0xFF, unicode_classes.OTHER) for f in flags]
    assert [code for code, a, b in zip(codes, ours, theirs, strict=True) if a != b] == []


def characters_cut_otherwise(pair: Pair) -> list[str]:
    """Of the scripts with few characters every one, next to two letters, a digit and a mark."""
    codes = [*range(0x80, 0x3400), *range(0xA000, 0xAC10), *range(0xD780, 0xD800), *range(0xF900, 0x12000)]
    codes += [0x4DFF, 0x4E00, 0x9FA5, 0x9FA6, 0x9FFF, *range(0x1D7C0, 0x1D800), *range(0x1E900, 0x1E960)]
    if not any(isinstance(pattern, Exact) for pattern in PRE_TOKENIZERS[pair.name].patterns):
        codes = codes[::7]  # their classes have a test of their own

    def differs(codes: list[int]) -> bool:
        text = "\n".join(f"b{c}b 7{c}7 !{c}! \u05d0{c}\u05d0 {c}{c}" for c in map(chr, codes))
        ours = pair.ours.encode(text, add_special=False, parse_special=False)
        return ours != pair.reference.tokenize(text, add_special=False, parse_special=False)

    blocks = [codes[at : at + 200] for at in range(0, len(codes), 200)]
    return [f"U+{code:04X}" for block in blocks if differs(block) for code in block if differs([code])]


@pytest.mark.parametrize("name", CASCADES.values())
def test_characters_are_cut_alike_one_by_one(name: str) -> None:
    with opened(name) as pair:
        assert characters_cut_otherwise(pair) == []


def test_a_letter_of_a_later_unicode_version_is_found() -> None:
    with opened("deepseek-llm") as pair:
        first, word, *later = pair.ours._splitter.cascade  # type: ignore[attr-defined]  # of a byte BPE
        assert "\u0531-\u0556" in word
        wrong = Exact(word.replace("\u0531-\u0556", "\u0531-\u0556\u0561"))
        pair.ours._splitter = Splitter((first, wrong, *later))  # type: ignore[attr-defined]  # likewise
        assert characters_cut_otherwise(pair) == ["U+0561"]


STEPS = [(name, step) for cascade, name in CASCADES.items() for step in range(len(cascade)) if len(cascade) > 1]


@pytest.mark.parametrize(("name", "step"), STEPS)
def test_every_step_of_a_cascade_counts(name: str, step: int) -> None:
    with opened(name) as pair:
        cascade = pair.ours._splitter.cascade  # type: ignore[attr-defined]  # of a byte BPE
        pair.ours._splitter = Splitter(cascade[:step] + cascade[step + 1 :])  # type: ignore[attr-defined]  # likewise
        assert fuzz(pair, 4000) is not None


def test_a_vocabulary_without_some_bytes(tmp_path: Path) -> None:
    """Both leave such a byte out, and nothing else: a lost letter beside it is found."""
    made = vocabularies.make("smollm")
    tokens = [
        "[removed]" if token == bytelevel.spell(b"\x14") else token for token in made.metadata["tokenizer.ggml.tokens"]
    ]  # type: ignore[attr-defined]  # this key is a list
    path = vocabularies.Made(made.name, made.architecture, {**made.metadata, "tokenizer.ggml.tokens": tokens}).write(
        tmp_path / "model.gguf"
    )
    with opened_file(path) as pair:
        assert pair.missing == b"\x14"
        case = Case(0, "a\x14b", add_special=False, parse_special=False)
        assert not differs(pair, case, case.text)
        assert not comes_back(pair, case, case.text, pair.ours.encode("a", add_special=False))
        assert fuzz(pair, 1000) is None


def test_the_same_case_comes_again_and_flags_vary() -> None:
    with opened("qwen2") as pair:
        first, again = (list(cases(pair, 200, seed=1)) for _ in range(2))
        other = list(cases(pair, 200, seed=2))
    assert first == again
    assert [case.text for case in first] != [case.text for case in other]
    assert len({(case.add_special, case.parse_special) for case in first}) == 4
    text = "".join(case.text for case in first)
    planes = {ord(character) >> 16 for character in text}
    assert planes >= {0, 1, 2, 3, 14}
    for wanted in ("<|im_start|>", "\r\n", "'ll", "\u3000", "\u200d"):
        assert wanted in text


def _patterns(tokenizer: ByteBpe, *changes: tuple[str, str]) -> None:
    """Change the tokenizer's first pattern."""
    pattern, *later = tokenizer._splitter.cascade
    for old, new in changes:
        assert old in pattern
        pattern = pattern.replace(old, new)
    tokenizer._splitter = Splitter((pattern, *later))
    tokenizer._cache.clear()


def _no_contractions(tokenizer: ByteBpe) -> None:
    _patterns(tokenizer, ("'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|", ""))


def _whole_numbers(tokenizer: ByteBpe) -> None:
    _patterns(tokenizer, ("{1,3}", "+"))


def _spaces_with_the_word_before(tokenizer: ByteBpe) -> None:
    _patterns(tokenizer, (r"(?![^ \t\n\v\f\r])", ""))


def _line_ends_alone(tokenizer: ByteBpe) -> None:
    _patterns(tokenizer, (r"+[\r\n]*|", "+|"))


def _upper_case_alone(tokenizer: ByteBpe) -> None:
    _patterns(tokenizer, (f"[a-z{unicode_classes.LETTER}]+", "[a-z]+"))


def _marks_are_letters(tokenizer: ByteBpe) -> None:
    stand_in = unicode_classes.LETTER
    _patterns(tokenizer, (f"A-Za-z{stand_in}", f"A-Za-z{stand_in}{unicode_classes.OTHER}"))


def _merges_always(tokenizer: ByteBpe) -> None:
    tokenizer._whole_pieces = False


def _two_merges_swapped(tokenizer: ByteBpe) -> None:
    ranks = tokenizer._ranks
    first = next(line for line in sorted(ranks, key=ranks.__getitem__) if re.fullmatch("[a-z] [a-z]", line))
    second = next(line for line in ranks if re.fullmatch(f"{first[-1]} [a-z]", line))  # they compete for a letter
    ranks[first], ranks[second] = ranks[second], ranks[first]


def _no_beginning(tokenizer: ByteBpe) -> None:
    tokenizer._prefix = []


def _specials_are_text(tokenizer: ByteBpe | SentencePiece) -> None:
    tokenizer.vocabulary.specials = ()


def _no_stripping(tokenizer: SentencePiece) -> None:
    vocabulary = tokenizer.vocabulary
    vocabulary.specials = tuple(
        SimpleNamespace(id=s.id, spelling=s.spelling, control=s.control, strips_right=False)  # type: ignore[misc]  # stands in for a special
        for s in vocabulary.specials
    )


def _no_space_prefix(tokenizer: SentencePiece) -> None:
    tokenizer._space_prefix = False


def _no_scores(tokenizer: SentencePiece) -> None:
    tokenizer._scores = [0.0] * tokenizer.vocab_size


def _case_of_all_letters(tokenizer: ByteBpe) -> None:
    _patterns(tokenizer, (f"[a-z{unicode_classes.LETTER}]+", f"[a-zA-Z{unicode_classes.LETTER}]+"))


def _no_tail(tokenizer: ByteBpe) -> None:
    _patterns(tokenizer, ("(?:'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))?", ""))


def _whole_numbers_after_all(tokenizer: ByteBpe) -> None:
    _patterns(tokenizer, (f"[0-9{unicode_classes.NUMBER}]", f"[0-9{unicode_classes.NUMBER}]+"))


def _line_ends_join(tokenizer: ByteBpe) -> None:
    _patterns(tokenizer, ("]+|[ ", r"]+[\r\n]*|[ "))


DEFECTS = [
    ("smollm", _whole_numbers_after_all),
    ("tekken", _merges_always),
    ("tekken", _no_beginning),
    ("tekken", _case_of_all_letters),
    ("llama4", _no_tail),
    ("seed-coder", _line_ends_join),
    ("llama-bpe", _no_contractions),
    ("llama-bpe", _whole_numbers),
    ("llama-bpe", _merges_always),
    ("llama-bpe", _no_beginning),
    ("qwen2", _line_ends_alone),
    ("qwen2", _marks_are_letters),
    ("qwen2", _specials_are_text),
    ("gpt-2", _spaces_with_the_word_before),
    ("gpt-2", _two_merges_swapped),
    ("gpt-4o", _upper_case_alone),
    ("phi-3", _no_stripping),
    ("phi-3", _no_space_prefix),
    ("spm", _no_scores),
]


@pytest.mark.parametrize(("name", "break_it"), DEFECTS)
def test_a_planted_defect_is_found_and_shrunk(name: str, break_it: object) -> None:
    with opened(name) as pair:
        break_it(pair.ours)  # type: ignore[operator]  # parametrized
        mismatch = fuzz(pair, 2000)
    assert mismatch is not None
    assert len(mismatch.shrunk) <= 24
    assert mismatch.ours != mismatch.reference
    report = mismatch.describe()
    assert f"{name}: text {mismatch.case.index} differs from llama.cpp at token " in report
    for character in mismatch.shrunk:
        assert f"U+{ord(character):04X}" in report


def test_a_character_class_of_another_unicode_version_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    garay_letter = 0x10D4A  # a letter since Unicode 16
    monkeypatch.setitem(unicode_classes._STAND_INS, garay_letter, unicode_classes.LETTER)
    with opened("qwen2") as pair:
        text = f"{chr(garay_letter)}!"
        assert pair.ours.encode(text) != pair.reference.tokenize(text)


def test_a_wrong_piece_is_found() -> None:
    with opened("qwen2") as pair:
        pair.ours.vocabulary.spellings[300] = "wrong"  # type: ignore[attr-defined]  # of a byte BPE, which qwen2 is
        assert [number for number, _, _ in pieces_that_differ(pair)] == [300]
        found = decoding_that_differs(pair, 2000)
    assert found is not None
    assert "wrong" in found[1]


def test_shrinking_keeps_what_fails_and_nothing_else() -> None:
    assert shrink("the quick brown fox", lambda text: "q" in text and "x" in text) == "qx"
    assert shrink("a", lambda text: "a" in text) == "a"
    assert shrink("abab", lambda text: text.count("b") >= 2) == "bb"


def test_vocabularies_have_what_the_texts_need() -> None:
    for name in vocabularies.NAMES:
        whole = vocabularies.make(name)
        assert len(whole.metadata["tokenizer.ggml.tokens"]) > 900  # type: ignore[arg-type]  # this key is a list
        assert len(set(whole.metadata["tokenizer.ggml.token_type"])) >= 3  # type: ignore[call-overload]  # this one too
