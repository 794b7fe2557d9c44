import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from m0_models import tokenizer_json, vocabularies
from m0_worker.tokenizers import Tokenizer, TokenizerError, load_tokenizer
from m0_worker.tokenizers.hf_json import HfJson
from made_source import Source, made

Load = Callable[..., Tokenizer]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a made vocabulary through its tokenizer.json."""

    def load_one(name: str = "gpt-4o", config: object = None, **changes: object) -> Tokenizer:
        whole = vocabularies.make(name)
        scored = name in vocabularies.SENTENCEPIECE
        document = tokenizer_json.sentencepiece(whole) if scored else tokenizer_json.byte_level(whole)
        tokenizer_json.write(tmp_path / "tokenizer.json", document)
        if config is not None:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return load_tokenizer(made(name, **changes), tmp_path)

    return load_one


WITHOUT_VOCABULARY = {
    "tokenizer__ggml__model": None,
    "tokenizer__ggml__tokens": None,
    "tokenizer__ggml__bos_token_id": None,
    "tokenizer__ggml__eos_token_id": None,
}


def test_gpt_oss_uses_the_file_beside_it(load: Load) -> None:
    assert load("gpt-4o").kind == "hf-json"


def test_other_architectures_use_their_own_vocabulary(load: Load) -> None:
    assert load("qwen2").kind == "gguf-bpe"


def test_gpt_oss_without_the_file_uses_its_own_vocabulary(tmp_path: Path) -> None:
    assert load_tokenizer(made("gpt-4o"), tmp_path).kind == "gguf-bpe"


@pytest.mark.parametrize("model", [None, "none", "no_vocab", "hf-json"])
def test_a_file_without_vocabulary_needs_tokenizer_json(load: Load, tmp_path: Path, model: str | None) -> None:
    assert load("qwen2", tokenizer__ggml__model=model).kind == "hf-json"
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json does not exist"):
        load_tokenizer(made("qwen2", tokenizer__ggml__model=model), tmp_path)


def test_an_embedded_tokenizer_json(tmp_path: Path) -> None:
    text = json.dumps(tokenizer_json.byte_level(vocabularies.make("qwen2")))
    source = made("qwen2", tokenizer__ggml__model=None, tokenizer__huggingface__json=text)
    assert load_tokenizer(source, tmp_path).kind == "hf-json"


def test_an_unknown_kind_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="'bert' is an unknown kind of tokenizer"):
        load_tokenizer(Source({"tokenizer.ggml.model": "bert"}), tmp_path)


def test_both_backends_agree(load: Load, tmp_path: Path) -> None:
    file = load("gpt-4o")
    (tmp_path / "tokenizer.json").unlink()
    own = load_tokenizer(made("gpt-4o"), tmp_path)
    text = "Hello, it's 12345 <|start|>user<|message|>a b  c\n\n<|end|> <|call|> 中文 😀"
    assert file.encode(text) == own.encode(text)
    assert file.decode(file.encode(text)) == own.decode(own.encode(text))
    assert [file.token_bytes(token) for token in range(file.vocab_size)] == [
        own.token_bytes(token) for token in range(own.vocab_size)
    ]
    for attribute in ("vocab_size", "bos_id", "eos_id", "eog_ids", "add_bos", "model_max_context"):
        assert getattr(file, attribute) == getattr(own, attribute), attribute


def test_names_from_the_configuration_where_the_model_file_has_none(load: Load) -> None:
    config = {"eos_token": {"content": "<|return|>"}, "bos_token": "<|startoftext|>", "model_max_length": 131072}
    tokenizer = load("gpt-4o", config, **WITHOUT_VOCABULARY, **{"gpt-oss__context_length": None})
    assert tokenizer.encode("<|startoftext|><|return|>") == [tokenizer.bos_id, tokenizer.eos_id]
    assert tokenizer.model_max_context == 131072
    assert len(tokenizer.eog_ids) == 3


def test_no_names_and_no_limit(load: Load) -> None:
    config = {"model_max_length": 10**30}
    tokenizer = load("gpt-4o", config, **WITHOUT_VOCABULARY, **{"gpt-oss__context_length": None})
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.model_max_context) == (None, None, None)


def test_the_beginning_of_sequence_is_the_files_own(load: Load) -> None:
    tokenizer = load("llama-bpe", tokenizer__ggml__model=None)
    assert tokenizer.add_bos
    assert tokenizer.encode("")[0] == tokenizer.bos_id
    assert tokenizer.encode("", add_special=False) == []


def test_special_tokens_as_text(load: Load) -> None:
    tokenizer = load("qwen2", tokenizer__ggml__model=None)
    assert len(tokenizer.encode("<|im_start|>")) == 1
    assert len(tokenizer.encode("<|im_start|>", parse_special=False)) > 3
    assert len(tokenizer.encode("<|im_start|>")) == 1


def test_sentencepiece_in_tokenizer_json(load: Load) -> None:
    tokenizer = load("phi-3", tokenizer__ggml__model=None)
    ids = tokenizer.encode("Hello é \x07 wörld")
    assert tokenizer.decode(ids) == "Hello é \x07 wörld"
    assert b"\x07" in [tokenizer.token_bytes(token) for token in ids]


def test_a_file_of_another_model_is_refused(load: Load) -> None:
    tokens = list(vocabularies.make("gpt-4o").metadata["tokenizer.ggml.tokens"])  # type: ignore[call-overload]  # metadata is of any type
    tokens[97] = "drifted"
    with pytest.raises(TokenizerError, match=r"belongs to another model: token 97 is .* there, and 'drifted' in"):
        load("gpt-4o", tokenizer__ggml__tokens=tokens)


def test_an_id_that_is_no_token_is_refused(load: Load) -> None:
    with pytest.raises(TokenizerError, match="eos_token_id = 99999 is no token"):
        load("gpt-4o", tokenizer__ggml__eos_token_id=99999)


@pytest.mark.parametrize("content", ["", "{}", "[1, 2]", '{"model": {"type": "Nonsense"}}'])
def test_a_broken_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is no tokenizer\.json that can be used"):
        load_tokenizer(made("gpt-4o"), tmp_path)


PANICS: dict[str, dict[str, object]] = {
    "a subword prefix longer than a merge": {"model": {"continuing_subword_prefix": "######"}},
    "a template of unknown tokens": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "unknown", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        }
    },
    "no character map": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
}
ERRORS: dict[str, dict[str, object]] = {"an unknown token that is no token": {"model": {"unk_token": "nothing"}}}


@pytest.mark.parametrize("changes", [*PANICS.values(), *ERRORS.values()], ids=[*PANICS, *ERRORS])
def test_no_failure_of_the_library_escapes(tmp_path: Path, changes: dict[str, object]) -> None:
    """Its panics are no Exception; others come with the first text that has no token."""
    document = tokenizer_json.byte_level(vocabularies.make("gpt-4o"))
    for key, value in changes.items():
        document[key] = {**document[key], **value} if key == "model" else value  # type: ignore[dict-item]  # JSON
    if "unk_token" in document["model"]:  # type: ignore[operator]  # the same
        model: dict[str, dict[str, int]] = document["model"]  # type: ignore[assignment]  # the same
        model["vocab"] = {spelling: number for spelling, number in model["vocab"].items() if number != ord("\n")}
    tokenizer_json.write(tmp_path / "tokenizer.json", document)
    with pytest.raises(TokenizerError, match=r"no tokenizer\.json that can be used"):
        load_tokenizer(made("gpt-4o"), tmp_path)


def test_an_interrupt_is_no_failure_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer_json.write(tmp_path / "tokenizer.json", tokenizer_json.byte_level(vocabularies.make("gpt-4o")))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(HfJson, "_open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(made("gpt-4o"), tmp_path)


def test_an_unknown_decoder_is_refused(tmp_path: Path) -> None:
    document = tokenizer_json.byte_level(vocabularies.make("gpt-4o")) | {
        "decoder": {"type": "WordPiece", "prefix": "#", "cleanup": True}
    }
    tokenizer_json.write(tmp_path / "tokenizer.json", document)
    with pytest.raises(TokenizerError, match="decoder 'WordPiece' is unknown"):
        load_tokenizer(made("gpt-4o"), tmp_path)


def test_a_broken_configuration_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json cannot be read"):
        load("gpt-4o")


def test_tokens_outside_the_vocabulary(load: Load) -> None:
    tokenizer = load("gpt-4o")
    for token in (-1, tokenizer.vocab_size):
        with pytest.raises(IndexError, match="outside the vocabulary"):
            tokenizer.token_bytes(token)


def test_a_lone_surrogate_is_refused(load: Load) -> None:
    with pytest.raises(TokenizerError, match="lone surrogate"):
        load("gpt-4o").encode("\udfff")


def test_the_library_is_only_imported_for_this_backend() -> None:
    script = "import sys, m0_worker.tokenizers; sys.exit('tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
