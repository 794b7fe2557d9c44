"""The GGUF reader on good, odd, broken and mutated files."""

from __future__ import annotations

import os
import random
import struct
import time
from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest
from m0_models import miniatures
from m0_models.corrupt import CORRUPT, Corrupt, rewritten
from m0_models.probes import metronome
from m0_worker.devices import open_device
from m0_worker.engine import load_model
from m0_worker.errors import OutOfMemory
from m0_worker.gguf import GgmlType, GgufError, GgufFile
from m0_worker.opening import open_model
from m0_worker.tokenizers import TokenizerError

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path) -> None:
    gguf, _ = open_model(path)
    load_model(gguf, open_device("cpu"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return metronome(tmp_path_factory.mktemp("gguf") / "metronome.gguf").path


def test_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    values = np.arange(64 * 32, dtype=np.float32).reshape(64, 32)
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("näme")
    writer.add_uint64("x.u64", 1 << 40)
    writer.add_float64("x.f64", 0.1)
    writer.add_int8("x.i8", -5)
    writer.add_bool("x.yes", val=True)
    writer.add_array("x.numbers", [3, 1, 2])
    writer.add_array("x.bools", [True, False])
    writer.add_array("x.strings", ["a", "", "ü€😀"])
    writer.add_file_type(15)
    writer.add_tensor("w", values)
    writer.add_tensor("b", np.ones(3, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufFile.open(path) as file:
        assert (file.architecture, file.name, file.file_type) == ("qwen2", "näme", "Q4_K_M")
        assert file.size == path.stat().st_size
        found = {key: file.metadata[key] for key in file.metadata if key.startswith("x.")}
        assert found == {
            "x.u64": 1 << 40,
            "x.f64": 0.1,
            "x.i8": -5,
            "x.yes": True,
            "x.numbers": [3, 1, 2],
            "x.bools": [True, False],
            "x.strings": ["a", "", "ü€😀"],
        }
        assert list(file.tensors) == ["w", "b"]
        info = file.tensors["w"]
        assert (info.shape, info.type, info.nbytes) == ((64, 32), GgmlType.F32, values.nbytes)
        raw = file.raw("w")
        assert np.array_equal(raw.view(np.float32).reshape(64, 32), values)
        assert not raw.flags.writeable
        with pytest.raises(GgufError, match=r"tensor nothing is missing"):
            file.raw("nothing")


def test_a_tensor_is_a_view_that_outlives_close(small: Path) -> None:
    file = GgufFile.open(small)
    raw = file.raw("token_embd.weight")
    before = raw.copy()
    file.close()
    file.close()
    assert np.array_equal(raw, before)


def test_file_type_falls_back_to_the_type_of_most_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("m")
    writer.add_tensor("w", np.zeros((4, 34), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("b", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufFile.open(path) as file:
        assert file.file_type == "Q8_0"


def test_invalid_utf8_in_a_token_keeps_its_bytes(small: Path, tmp_path: Path) -> None:
    with GgufFile.open(small) as file:
        tokens = file.metadata["tokenizer.ggml.tokens"]
        assert isinstance(tokens, list)
        word = next(t for t in tokens if len(t) == 5)
    data = small.read_bytes()
    at = data.index(struct.pack("<Q", len(word.encode())) + word.encode()) + 8
    patched = tmp_path / "patched.gguf"
    patched.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    with GgufFile.open(patched) as file:
        changed = file.metadata["tokenizer.ggml.tokens"]
        assert isinstance(changed, list)
        found = next(t for t, old in zip(changed, tokens, strict=True) if t != old)
        assert found.encode("utf-8", "surrogateescape")[:1] == b"\xff"


@pytest.mark.parametrize("fault", CORRUPT.values(), ids=lambda c: c.name)
def test_crafted_files(fault: Corrupt, tmp_path: Path) -> None:
    path = fault.write(tmp_path / "c.gguf")
    if fault.good:
        load(path)
        return
    with pytest.raises((GgufError, TokenizerError)) as refused:
        load(path)
    error = refused.value
    assert any(word.lower() in str(error).lower() for word in fault.words), str(error)
    if isinstance(error, GgufError):
        assert str(path) in error.where
        assert error.cure
        assert error.reason.replace("-", "").isalnum()


def test_there_are_sixty_broken_files_and_more() -> None:
    assert sum(not fault.good for fault in CORRUPT.values()) >= 60


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokenizer.ggml.pre": "chameleon"}, "'chameleon' is an unknown pre-tokenizer"),
        ({"tokenizer.ggml.model": "bert"}, "'bert' is an unknown kind of tokenizer"),
        ({"split.count": 2}, "one of 2 parts"),
    ],
)
def test_what_is_not_supported_is_said_before_damage(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    whole = rewritten(changes)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((GgufError, TokenizerError), match=words):
        open_model(path)


@pytest.mark.parametrize(("fault", "words"), [("unknown-architecture", "'bloom'"), ("refused-tensor-type", "IQ2_XS")])
def test_a_damaged_file_of_what_is_not_supported(fault: str, words: str, tmp_path: Path) -> None:
    path = CORRUPT[fault].write(tmp_path / "half.gguf")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(GgufError, match=words):
        open_model(path)


def test_version_2_comes_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(
        GgufError, match=r"only little-endian version 3 is supported.*llama-quantize OLD\.gguf NEW\.gguf COPY"
    ):
        open_model(CORRUPT["version-2"].write(tmp_path / "c.gguf"))


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    os.mkfifo(path)
    with pytest.raises(GgufError, match="no regular file"):
        open_model(path)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("offset-unaligned", "offset 33 is no multiple of the alignment 32"),
        ("offset-outside", "lies outside the file"),
        ("zero-dimension", "hold a zero"),
        ("nine-dimensions", "9 dimensions"),
        ("big-endian", "the file is big-endian"),
    ],
)
def test_the_fault_itself_is_named(fault: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(GgufError, match=message):
        GgufFile.open(CORRUPT[fault].write(tmp_path / "c.gguf"))


@pytest.mark.parametrize("name", ["absent.gguf", "."])
def test_unreadable(name: str, tmp_path: Path) -> None:
    with pytest.raises(GgufError) as refused:
        GgufFile.open(tmp_path / name)
    assert refused.value.reason == "unreadable"


def test_overlapping_tensors_are_refused(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    with GgufFile.open(small) as file:
        first, second, *_ = sorted(file.tensors.values(), key=lambda t: t.offset)
    record = data.index(second.name.encode())
    n_dims = struct.unpack_from("<I", data, record + len(second.name))[0]
    at = record + len(second.name) + 4 + 8 * n_dims + 4
    moved = tmp_path / "overlap.gguf"
    moved.write_bytes(data[:at] + struct.pack("<Q", 0) + data[at + 8 :])
    with pytest.raises(GgufError, match=rf"overlaps tensor '{first.name}'|overlaps tensor '{second.name}'"):
        GgufFile.open(moved)


def test_mutated_files_load_or_are_refused(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    with GgufFile.open(small) as file:
        header = min(t.offset for t in file.tensors.values())
    rng = random.Random(20)
    path = tmp_path / "mutant.gguf"
    outcomes: dict[str, int] = {}
    for _ in range(1500):
        mutant = bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(header - 8)
            choice = rng.random()
            if choice < 0.6:
                mutant[at] = rng.randrange(256)
            elif choice < 0.9:
                mutant[at : at + 8] = rng.choice([b"\xff" * 8, bytes(8), struct.pack("<Q", 1 << 62), rng.randbytes(8)])
            else:
                del mutant[rng.randrange(header, len(mutant)) :]
        path.write_bytes(mutant)
        try:
            load(path)
            outcome = "loads"
        except GgufError as error:
            outcome = error.reason
        except TokenizerError:
            outcome = "tokenizer"
        except OutOfMemory:
            outcome = "memory"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert {"loads", "truncated", "bad-value-type", "bad-dimensions"} <= outcomes.keys()


def test_header_of_a_large_vocabulary_is_read_in_time(tmp_path: Path) -> None:
    # M0-W-1620 allows one second for parsing; 152k tokens and 151k merges are Qwen2's.
    path = miniatures.write(tmp_path / "small.gguf", "qwen2", "Q8_0")
    with GgufFile.open(path) as file:
        n_small = len(file.metadata)
    tokens = [f"token{i}" for i in range(152_000)]
    big = tmp_path / "big.gguf"
    strings = b"".join(struct.pack("<Q", len(t)) + t.encode() for t in tokens)
    key = b"zz.tokens"
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", 9, 8, len(tokens)) + strings
    data = path.read_bytes()
    magic, version, n_tensors, n_keys = struct.unpack_from("<4sIQQ", data)
    pad = -len(entry) % 32
    name = b"zz.padding"
    filler = struct.pack("<Q", len(name)) + name + struct.pack("<IQ", 8, 0)
    entry += filler
    pad = -len(entry) % 32
    entry = entry[:-8] + struct.pack("<Q", pad) + b" " * pad
    big.write_bytes(struct.pack("<4sIQQ", magic, version, n_tensors, n_keys + 2) + entry + data[24:])
    start = time.process_time()
    with GgufFile.open(big) as file:
        opened = time.process_time() - start
        assert file.metadata["zz.tokens"] == tokens
        assert len(file.metadata) == n_small + 2
    assert opened < 1.0


@pytest.mark.parametrize(("number", "which"), [(0, "part 1 of 3"), (2, "part 3 of 3"), (None, "one of 3 parts")])
def test_a_part_of_a_model_is_refused_by_name(number: int | None, which: str, tmp_path: Path) -> None:
    """Later parts have no keys but these: nothing else may be looked at first."""
    path = tmp_path / "m-00001-of-00003.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    if number is not None:
        writer.add_uint16("split.no", number)
    writer.add_uint16("split.count", 3)
    writer.add_tensor("blk.7.attn_q.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(GgufError, match=f"the file is {which}, and models in parts are not supported.*--merge"):
        GgufFile.open(path)
