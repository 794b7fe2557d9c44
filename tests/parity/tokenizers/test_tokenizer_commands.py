import json
from pathlib import Path

import pytest
from m0_models import vocabularies
from m0_parity.llamacpp import Model
from m0_parity.tokenizers import cli, golden, vectors


def test_fuzz_says_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fuzz", "--count", "40", "--vocabulary", "gpt-2", "--vocabulary", "spm", "--jobs", "1"]) == 0
    assert capsys.readouterr().out.count("40 texts,      4 decodings, seed 0: equal") == 2


def test_fuzz_takes_any_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = vocabularies.make("llama-bpe").write(tmp_path / "some model.gguf")
    assert cli.main(["fuzz", "--count", "40", "--model", str(path), "--jobs", "1"]) == 0
    assert "some model                40 texts,      4 decodings, seed 0: equal" in capsys.readouterr().out


def test_fuzz_fails_on_a_difference(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "tokenize", lambda *_, **__: [7])
    assert cli.main(["fuzz", "--count", "10", "--vocabulary", "gpt-2", "--jobs", "1"]) == 1
    assert "gpt-2: text 0 differs from llama.cpp at token 0" in capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in the form of llama.cpp's own, with a vocabulary that the worker supports and one that it does not."""
    texts = ["", "\n", " Hello", "a\n\nb", "3333", "<|im_start|>", "🚀 (normal) 😶‍🌫️"]
    for name in ("qwen2", "other"):
        made = vocabularies.make("qwen2")
        path = tmp_path / f"ggml-vocab-{name}.gguf"
        reference = Model(made.write(path), vocab_only=True)
        ids = [reference.tokenize(text, add_special=False, parse_special=False) for text in texts]
        path.with_name(f"{path.name}.inp").write_text("\n__ggml_vocab_test__\n".join(texts), newline="")
        path.with_name(f"{path.name}.out").write_text("".join(" ".join(map(str, line)) + "\n" for line in ids))
    other = vocabularies.Made("other", "qwen2", dict(made.metadata) | {"tokenizer.ggml.pre": "chameleon"})
    other.write(path)
    return tmp_path


def test_llama_cpp_vectors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vectors", "--vocab-dir", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "qwen2           7 of 7 equal" in output
    assert "other           not supported: tokenizer.ggml.pre = 'chameleon'" in output


def test_a_wrong_vector_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "ggml-vocab-qwen2.gguf.out"
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:2], "1 2 3", *lines[3:]]))
    assert cli.main(["vectors", "--vocab-dir", str(folder)]) == 1
    assert "6 of 7 equal\n  ' Hello': ours" in capsys.readouterr().out


def test_a_folder_without_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["vectors", "--vocab-dir", str(tmp_path)]) == 2
    assert "no ggml-vocab-" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):
        vectors.check(tmp_path)


def test_the_stored_golden_vectors_are_what_both_libraries_say_now(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["golden"]) == 0
    assert "5 golden files are as built now" in capsys.readouterr().out


def test_a_changed_golden_vector_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "FILES", {"gpt-2": "gguf-bpe"})
    assert cli.main(["golden", "--write", str(tmp_path)]) == 0
    assert cli.main(["golden", str(tmp_path)]) == 0
    path = tmp_path / "gpt-2.json"
    document = json.loads(path.read_text())
    document["vectors"][0]["ids"][0] += 1
    path.write_text(json.dumps(document))
    assert cli.main(["golden", str(tmp_path)]) == 1


def test_libraries_that_disagree_make_no_golden_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "tokenize", lambda *_, **__: [7])
    with pytest.raises(ValueError, match=r"basic, one word: llama\.cpp says \[7\], tokenizers says"):
        golden.build("gpt-2")
