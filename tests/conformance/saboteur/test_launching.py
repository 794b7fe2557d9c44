"""Arguments read and changed, and files instead of others."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from m0_conformance.areas.model_forms.defects import swapped_nibbles
from m0_conformance.saboteur.catalogue import Truth, catalogue, find
from m0_conformance.saboteur.defect import Exit
from m0_conformance.saboteur.launching import Accepts, Refuses, given, replaced, without
from m0_models import corrupt, probes

if TYPE_CHECKING:
    from m0_models.container import Tensor

ARGV = ["--worker-id", "w", "--model", "m.gguf", "--port", "20000"]


def test_an_argument_is_read_changed_added_and_taken_away() -> None:
    assert given(ARGV, "--model") == "m.gguf"
    assert given(ARGV, "--gpu-device") is None
    assert given([*ARGV, "--host"], "--host") is None
    assert replaced(ARGV, "--model", "n.gguf") == ["--worker-id", "w", "--model", "n.gguf", "--port", "20000"]
    assert replaced(ARGV, "--gpu-device", "0") == [*ARGV, "--gpu-device", "0"]
    assert without(ARGV, "--model") == ["--worker-id", "w", "--port", "20000"]
    assert without(ARGV, "--host") == ARGV


def test_only_the_named_file_gets_a_good_one_in_its_place(tmp_path: Path) -> None:
    class Lenient(Accepts):
        files = ("corrupt-bad-magic",)

    broken = corrupt.CORRUPT["bad-magic"].write(tmp_path / "corrupt-bad-magic.gguf")
    lenient = Lenient()
    other = given(asyncio.run(lenient.arguments(replaced(ARGV, "--model", str(broken)))), "--model")
    assert other is not None
    assert Path(other).read_bytes()[:4] == b"GGUF"
    assert broken.read_bytes()[:4] == b"GGML"
    assert asyncio.run(lenient.arguments(ARGV)) == ARGV


def test_a_refusal_names_model_and_device() -> None:
    class Strict(Refuses):
        files, reason = ("m",), "it is too blue"

    with pytest.raises(Exit) as wish:
        asyncio.run(Strict().arguments([*ARGV, "--gpu-device", "3"]))
    assert wish.value.code == 1
    assert all(word in wish.value.lines[0] for word in ("MODEL_LOAD_FAILED", "too blue", "'m.gguf'", "gpu-device 3"))


def test_a_misread_file_differs_in_the_values_and_nowhere_else(tmp_path: Path) -> None:
    path = probes.script(tmp_path / "script.gguf").path
    defect = catalogue()["q4-0-nibbles-swapped"]()
    other = given(asyncio.run(defect.arguments(replaced(ARGV, "--model", str(path)))), "--model")
    assert other is not None
    assert other != str(path)
    (metadata, tensors), (changed_metadata, changed) = corrupt.read_back(path), corrupt.read_back(Path(other))
    assert changed_metadata == metadata
    for before, after in zip(tensors, changed, strict=True):
        assert (after.name, after.type) == (before.name, before.type)
        assert bytes(restored(after)) == bytes(before.raw)


def restored(tensor: Tensor) -> bytes:
    """Swapping twice changes nothing."""
    return bytes(swapped_nibbles(tensor.raw, 18, 2) if tensor.type == "Q4_0" else tensor.raw)


def test_every_name_leads_to_its_class() -> None:
    known = catalogue()
    assert all(find(name) is kind for name, kind in known.items())
    assert find("truth") is Truth
    assert find("no such defect") is None


def test_who_lies_about_arguments_alone_gives_its_place_to_the_worker() -> None:
    """One process less for each start: nothing is left to lie about."""
    tell = "import os, sys; print(os.getpid(), sys.argv[-1])"
    words = [sys.executable, "-P", "-m", "m0_conformance.saboteur", "--defect", "gpu-device-clamped"]
    started = subprocess.Popen(
        [*words, "--worker", f"{sys.executable} -c '{tell}'", "--gpu-device", "99"], stdout=subprocess.PIPE, text=True
    )
    said, _ = started.communicate(timeout=30)
    assert said.split() == [str(started.pid), "0"]
