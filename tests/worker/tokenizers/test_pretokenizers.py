import pytest
from hypothesis import given
from hypothesis import strategies as st
from m0_worker.tokenizers import TokenizerError
from m0_worker.tokenizers.pretokenizers import PRE_TOKENIZERS, Splitter, pre_tokenizer


def split(name: str, text: str) -> list[str]:
    return Splitter(pre_tokenizer(name).patterns).split(text)


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("gpt-2", "it's 12345 days", ["it", "'s", " 12345", " days"]),
        ("gpt-2", "IT'S", ["IT", "'", "S"]),
        ("gpt-2", "a   b\n\n c", ["a", "  ", " b", "\n\n", " c"]),
        ("gpt-2", "end  ", ["end", "  "]),
        ("llama-bpe", "it's 12345 days", ["it", "'s", " ", "123", "45", " days"]),
        ("llama-bpe", "IT'S", ["IT", "'S"]),
        ("llama-bpe", "!\n\nx (y)", ["!\n\n", "x", " (", "y", ")"]),
        ("llama-bpe", "a  \n  b", ["a", "  \n", " ", " b"]),
        ("smollm", "it's 123 days  ²", ["it", "'s", " ", "1", "2", "3", " days", "  ", "²"]),
        ("starcoder", "a1 b22", ["a", "1", " b", "2", "2"]),
        ("dbrx", "it's 12345 days", ["it", "'s", " ", "123", "45", " days"]),
        ("stablelm2", "12 IT'S", ["1", "2", " IT", "'S"]),
        ("tekken", "camelCase's 12", ["camel", "Case", "'s", " ", "1", "2"]),
        ("falcon", "a``b 1234", ["a", "``", "b", " ", "123", "4"]),
        ("viking", "one, two 12.", ["one", ",", " two", " ", "1", "2", "."]),
        ("laguna", "a \n\nb", ["a", " ", "\n\n", "b"]),
        ("seed-coder", "!\nx", ["!", "\n", "x"]),
        (
            "deepseek-llm",
            "Größe ab12 \u05d0\u05d1 中\u3000 ",
            ["Gr", "öß", "e", " ab", "12", " \u05d0\u05d1 ", "中", "\u3000 "],
        ),
        ("deepseek-coder", "Größe ab12 中!", ["Größe", " ab", "1", "2", " ", "中", "!"]),
        ("llama4", "camelCaseABC's", ["camel", "Case", "ABC's"]),
        ("qwen2", "12345", ["1", "2", "3", "4", "5"]),
        ("qwen2", "中文abc e\u0301", ["中文abc", " e", "\u0301"]),
        ("qwen2", "\u3000中", ["\u3000中"]),
        ("gpt-4o", "camelCaseABC's", ["camel", "Case", "ABC's"]),
        ("gpt-4o", "ÄpfelÖl", ["ÄpfelÖl"]),
        ("gpt-4o", "a/b//\n", ["a", "/b", "//\n"]),
        ("default", "a.b 1234,5", ["a", ".", "b", " ", "123", "4", ",", "5"]),
        ("default", "x = y", ["x", " ", "=", " y"]),
    ],
)
def test_cuts(name: str, text: str, pieces: list[str]) -> None:
    assert split(name, text) == pieces


@pytest.mark.parametrize("name", sorted(set(PRE_TOKENIZERS)))
@given(text=st.text(max_size=60))
def test_nothing_is_lost(name: str, text: str) -> None:
    pieces = split(name, text)
    assert "".join(pieces) == text
    assert "" not in pieces


def test_what_a_name_implies_where_the_file_does_not_say() -> None:
    whole_and_begun = {name for name, rule in PRE_TOKENIZERS.items() if rule.ignore_merges and rule.add_bos}
    llama_3 = {"llama-bpe", "llama-v3", "llama3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"}
    assert whole_and_begun == {*llama_3, "tekken"}
    assert not any(PRE_TOKENIZERS[name].ignore_merges or PRE_TOKENIZERS[name].add_bos for name in ("dbrx", "smollm"))


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(TokenizerError, match=r"'tekken-9'.*llama-bpe.*qwen2"):
        pre_tokenizer("tekken-9")
