"""M0-W-1363, M0-W-1821: texts and ids that llama.cpp and Hugging Face tokenizers agree on."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from m0_models import tokenizer_json, vocabularies
from m0_worker.tokenizers import Tokenizer, load_tokenizer
from made_source import made

FOLDER = Path(__file__).parent / "golden"
FILES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
VECTORS = [(name, at) for name, document in FILES.items() for at in range(len(document["vectors"]))]
CATEGORIES = {"basic", "bos-eos", "special", "multibyte", "empty", "long", "whitespace", "digits"}


@cache
def tokenizer(name: str, folder: Path) -> Tokenizer:
    if FILES[name]["backend"] == "hf-json":
        tokenizer_json.write(folder / "tokenizer.json", tokenizer_json.byte_level(vocabularies.make(name)))
    return load_tokenizer(made(name), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_whole_and_belongs_to_its_vocabulary(name: str, folder: Path) -> None:
    document: dict[str, Any] = FILES[name]
    vectors = document["vectors"]
    assert (
        hashlib.sha256(json.dumps(vectors, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
        == document["sha256"]
    )
    assert vocabularies.make(name).digest == document["vocabulary"]["sha256"]
    assert len(vectors) >= 25
    assert {vector["category"] for vector in vectors} >= CATEGORIES
    assert len(document["provenance"]["libraries"]) == 2
    assert tokenizer(name, folder).kind == document["backend"]


def test_every_backend_has_a_file() -> None:
    assert {document["backend"] for document in FILES.values()} == {"gguf-bpe", "hf-json"}
    assert {"qwen2", "phi-3", "gpt-4o"} <= FILES.keys()


@pytest.mark.parametrize(("name", "at"), VECTORS)
def test_vector(name: str, at: int, folder: Path) -> None:
    vector: dict[str, Any] = FILES[name]["vectors"][at]
    ours = tokenizer(name, folder)
    text = vector["text"] * vector["times"]
    ids = ours.encode(text, add_special=vector["add_special"], parse_special=vector["parse_special"])
    if "ids" in vector:
        assert ids == vector["ids"]
    else:
        assert (len(ids), ids[:20]) == (vector["count"], vector["first"])
        assert hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest() == vector["ids_sha256"]
    decoded = ours.decode(ids)
    if "decoded" in vector:
        assert decoded == vector["decoded"]
    else:
        assert hashlib.sha256(decoded.encode()).hexdigest() == vector["decoded_sha256"]
