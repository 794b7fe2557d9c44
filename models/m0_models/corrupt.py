"""Broken files, each with one thing wrong, and odd files that are still right.

They start from a small probe and are patched on the level of bytes, so that everything but the named fault is sound.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from m0_models import container
from m0_models.container import Tensor
from m0_models.corrupt_keys import KEYS
from m0_models.probes import metronome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_HEADER: Final = struct.Struct("<4sIQQ")  # magic, version, tensor count, metadata count


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A crafted file. ``good`` ones must load; of the others the message must hold one of ``words``, in any case."""

    name: str
    wrong: str
    clause: str
    words: tuple[str, ...]
    make: Callable[[bytes], bytes]
    good: bool = False

    def write(self, path: Path) -> Path:
        """Write the file to ``path`` and return it."""
        base = metronome(path).path.read_bytes()
        path.write_bytes(self.make(base))
        return path


class _Layout:
    """Where things lie in a GGUF v3 file: the offsets a patch needs."""

    def __init__(self, file: bytes) -> None:
        self.file = file
        _, _, self.n_tensors, self.n_keys = _HEADER.unpack_from(file)
        self.keys: dict[str, tuple[int, int, int]] = {}  # key -> start of entry, start of value, end
        self.tensors: dict[str, tuple[int, int, int]] = {}  # name -> start of entry, start of dims, end
        at = _HEADER.size
        for _ in range(self.n_keys):
            start = at
            key, at = self._string(at)
            (kind,) = struct.unpack_from("<I", file, at)
            value = at + 4
            at = self._skip(kind, value)
            self.keys[key] = (start, value, at)
        self.end_of_keys = at
        for _ in range(self.n_tensors):
            start = at
            name, at = self._string(at)
            (n_dims,) = struct.unpack_from("<I", file, at)
            dims = at + 4
            at = dims + 8 * n_dims + 4 + 8
            self.tensors[name] = (start, dims, at)
        self.end_of_infos = at

    def _string(self, at: int) -> tuple[str, int]:
        (length,) = struct.unpack_from("<Q", self.file, at)
        return self.file[at + 8 : at + 8 + length].decode(), at + 8 + length

    def _skip(self, kind: int, at: int) -> int:
        fixed = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
        if kind in fixed:
            return at + fixed[kind]
        if kind == 8:
            return self._string(at)[1]
        element, count = struct.unpack_from("<IQ", self.file, at)
        at += 12
        if element in fixed:
            return int(at + fixed[element] * count)
        for _ in range(count):
            at = self._skip(element, at)
        return at


def _patch(file: bytes, at: int, new: bytes) -> bytes:
    return file[:at] + new + file[at + len(new) :]


def _head(file: bytes, index: int, value: object) -> bytes:
    fields = list(_HEADER.unpack_from(file))
    fields[index] = value
    return _HEADER.pack(*fields) + file[_HEADER.size :]


def _magic(file: bytes) -> bytes:
    return _head(file, 0, b"GGML")


def _version(version: int, file: bytes) -> bytes:
    return _head(file, 1, version)


def _big_endian(file: bytes) -> bytes:
    return file[:4] + struct.pack(">I", 3) + file[8:]


def _count(index: int, value: int, file: bytes) -> bytes:
    return _head(file, index, value)


def _cut(share: float, file: bytes) -> bytes:
    return file[: int(len(file) * share)]


def _cut_tail(file: bytes) -> bytes:
    return file[:-4096]


def _drop_key(key: str, file: bytes) -> bytes:
    """Rename instead of removing: same lengths, so that no offset moves."""
    start, _, _ = _Layout(file).keys[key]
    return _patch(file, start + 8, ("x" * len(key)).encode())


def _drop_tensor(name: str, file: bytes) -> bytes:
    start, _, _ = _Layout(file).tensors[name]
    return _patch(file, start + 8, ("x" * len(name)).encode())


def _string_value(key: str, value: str, file: bytes) -> bytes:
    """Replace a string value by one of the same length."""
    _, at, end = _Layout(file).keys[key]
    room = end - at - 8
    if len(value) != room:
        raise ValueError(f"{value!r} must be {room} long")
    return _patch(file, at + 8, value.encode())


def _u32_value(key: str, value: int, file: bytes) -> bytes:
    return _patch(file, _Layout(file).keys[key][1], struct.pack("<I", value))


def _value_type(key: str, kind: int, file: bytes) -> bytes:
    return _patch(file, _Layout(file).keys[key][1] - 4, struct.pack("<I", kind))


def _string_length(file: bytes) -> bytes:
    return _patch(file, _Layout(file).keys["general.name"][1], struct.pack("<Q", 1 << 62))


def _array_length(file: bytes) -> bytes:
    return _patch(file, _Layout(file).keys["tokenizer.ggml.tokens"][1] + 4, struct.pack("<Q", 1 << 60))


def _dimension(value: int, file: bytes) -> bytes:
    return _patch(file, _Layout(file).tensors["token_embd.weight"][1], struct.pack("<Q", value))


def _dimensions(count: int, file: bytes) -> bytes:
    return _patch(file, _Layout(file).tensors["token_embd.weight"][1] - 4, struct.pack("<I", count))


def _tensor_type(kind: int, file: bytes) -> bytes:
    return _patch(file, _Layout(file).tensors["token_embd.weight"][2] - 12, struct.pack("<I", kind))


def _offset(value: int, file: bytes) -> bytes:
    return _patch(file, _Layout(file).tensors["output.weight"][2] - 8, struct.pack("<Q", value))


def _twice(file: bytes) -> bytes:
    layout = _Layout(file)
    source, target = layout.tensors["blk.0.attn_k.weight"][0], layout.tensors["blk.0.attn_v.weight"][0]
    name = len("blk.0.attn_k.weight")
    return _patch(file, target + 8, file[source + 8 : source + 8 + name])


def _shape(file: bytes) -> bytes:
    """attn_k with half its rows: inside the file, but not what the metadata promise."""
    at = _Layout(file).tensors["blk.0.attn_k.weight"][1] + 8
    return _patch(file, at, struct.pack("<Q", 32))


def _alignment(value: int, _: bytes) -> bytes:
    return rewritten({}, alignment=value)


def _odd_key(_: bytes) -> bytes:
    return rewritten({"vendor.note": "unknown keys are allowed", "vendor.numbers": [1, 2, 3]})


def _key_without_utf8(file: bytes) -> bytes:
    return _patch(file, _Layout(file).keys["general.name"][0] + 8, b"\xff")


def _duplicate_key(file: bytes) -> bytes:
    layout = _Layout(file)
    length = len("qwen2.block_count")
    source = layout.keys["qwen2.block_count"][0] + 8
    same_length = next(key for key in layout.keys if len(key) == length and key != "qwen2.block_count")
    return _patch(file, layout.keys[same_length][0] + 8, file[source : source + length])


def _array_of_arrays(file: bytes) -> bytes:
    return _patch(file, _Layout(file).keys["tokenizer.ggml.merges"][1], struct.pack("<I", 9))


def rewritten(
    changes: Mapping[str, object], *, alignment: int = 32, without: str = "", more: Sequence[Tensor] = ()
) -> bytes:
    """The metronome once more through the writer.

    Args:
        changes: keys with other values, or with None to leave them out.
        alignment: of the tensors.
        without: a tensor to be left out.
        more: tensors to be added.
    """
    import tempfile  # noqa: PLC0415  # the other files are patched

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        metadata, tensors = read_back(metronome(path).path)
        kept = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
        tensors = [tensor for tensor in tensors if tensor.name != without]
        return container.write(path, "qwen2", kept, [*tensors, *more], alignment, complete=False).read_bytes()


def read_back(path: Path) -> tuple[dict[str, object], list[Tensor]]:
    """Metadata (without general.architecture and alignment) and tensors of a file, ready to be written again."""
    import gguf  # noqa: PLC0415  # its reader is slow to import and needed here only

    reader = gguf.GGUFReader(path)
    metadata: dict[str, object] = {}
    for key, entry in reader.fields.items():
        if key.startswith("GGUF.") or key in {"general.architecture", "general.alignment"}:
            continue
        value = entry.contents()
        metadata[key] = container.U64(value) if entry.types[-1] == gguf.GGUFValueType.UINT64 else value
    tensors = [Tensor(t.name, t.tensor_type.name, np.array(t.data).view(np.uint8)) for t in reader.tensors]
    return metadata, tensors


def _changed(changes: Mapping[str, object], _: bytes) -> bytes:
    return rewritten(changes)


_SCORES: Final = ("tokenizer.ggml.scores",)
_OPTIONAL: Final = (
    *_SCORES, "tokenizer.ggml.padding_token_id", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_bos_token",
    "general.type", "general.quantization_version", "general.file_type", "qwen2.vocab_size",
    "qwen2.rope.dimension_count",
)  # fmt: skip
"""Keys that follow from others, or that nothing needs."""


def _without(keys: Sequence[str], _: bytes) -> bytes:
    return rewritten(dict.fromkeys(keys))


def _vocabulary(file: bytes) -> tuple[list[str], list[int]]:
    """Tokens and types of the base file, to be changed."""
    import tempfile  # noqa: PLC0415  # the other files are patched

    with tempfile.NamedTemporaryFile(suffix=".gguf") as copy:
        copy.write(file)
        copy.flush()
        metadata, _ = read_back(Path(copy.name))
    return list(cast("list[str]", metadata[_TOKENS])), list(cast("list[int]", metadata[_TYPES]))


def _more_tokens(file: bytes) -> bytes:
    tokens, types = _vocabulary(file)
    return rewritten({_TOKENS: [*tokens, "one", "two"], _TYPES: [*types, 1, 1]})


def _byte_spelt_otherwise(file: bytes) -> bytes:
    _, types = _vocabulary(file)
    return rewritten({_TYPES: [6, *types[1:]]})


def _duplicate_token(file: bytes) -> bytes:
    tokens, _ = _vocabulary(file)
    return rewritten({_TOKENS: [*tokens[:-1], tokens[0]]})


_TOKENS: Final = "tokenizer.ggml.tokens"
_TYPES: Final = "tokenizer.ggml.token_type"

CORRUPT: Final[dict[str, Corrupt]] = {
    c.name: c
    for c in (
        Corrupt("bad-magic", "magic is GGML", "M0-W-1200", ("magic",), _magic),
        Corrupt("version-1", "version is 1", "M0-W-1200", ("version",), partial(_version, 1)),
        Corrupt("version-2", "version is 2", "M0-W-1200", ("version",), partial(_version, 2)),
        Corrupt("version-4", "version is 4", "M0-W-1200", ("version",), partial(_version, 4)),
        Corrupt("big-endian", "version 3 in big-endian order", "M0-W-1200", ("version", "endian"), _big_endian),
        Corrupt("empty", "no byte in it", "M0-W-1210", ("magic", "short", "truncated", "empty"), lambda _: b""),
        Corrupt("text", "a text file", "M0-W-1210", ("magic",), lambda _: b"This is no model.\n" * 64),
        Corrupt(
            "half-header", "cut inside the metadata", "M0-W-1210", ("truncat", "end", "short"), partial(_cut, 0.05)
        ),
        Corrupt("truncated", "cut inside the tensor data", "M0-W-1210", ("truncat", "end", "outside"), _cut_tail),
        Corrupt("10000-tensors", "tensor count 10,000", "M0-W-1210", ("tensor",), partial(_count, 2, 10_000)),
        Corrupt("no-tensors", "tensor count 0", "M0-W-1210", ("tensor",), partial(_count, 2, 0)),
        Corrupt("huge-tensor-count", "tensor count 2^63", "M0-W-1210", ("tensor",), partial(_count, 2, 1 << 63)),
        Corrupt("huge-key-count", "metadata count 2^63", "M0-W-1210", ("metadata", "key"), partial(_count, 3, 1 << 63)),
        Corrupt("huge-string", "a string of 2^62 bytes", "M0-W-1211", ("string", "length", "long"), _string_length),
        Corrupt("huge-array", "an array of 2^60 elements", "M0-W-1211", ("array", "length", "long"), _array_length),
        Corrupt(
            "unknown-value-type",
            "general.name has value type 99",
            "M0-W-1211",
            ("type",),
            partial(_value_type, "general.name", 99),
        ),
        Corrupt(
            "no-architecture",
            "general.architecture is missing",
            "M0-W-1211",
            ("general.architecture",),
            partial(_drop_key, "general.architecture"),
        ),
        Corrupt(
            "no-name",
            "general.name is missing",
            "M0-W-1211",
            ("general.name",),
            partial(_drop_key, "general.name"),
        ),
        *(
            Corrupt(
                f"no-{key.replace('_', '-')}",
                f"<architecture>.{key} is missing",
                "M0-W-1211",
                (key,),
                partial(_drop_key, f"qwen2.{key}"),
            )
            for key in ("context_length", "embedding_length", "block_count")
        ),
        Corrupt(
            "no-tokens",
            "tokenizer.ggml.tokens is missing",
            "M0-W-1211",
            ("tokenizer.ggml.tokens",),
            partial(_drop_key, "tokenizer.ggml.tokens"),
        ),
        Corrupt(
            "unknown-architecture",
            "architecture bloom",
            "M0-W-1212",
            ("bloom",),
            partial(_string_value, "general.architecture", "bloom"),
        ),
        Corrupt(
            "unknown-pre-tokenizer",
            "tokenizer.ggml.pre is klmno",
            "M0-W-1360",
            ("klmno",),
            partial(_string_value, "tokenizer.ggml.pre", "klmno"),
        ),
        Corrupt(
            "more-layers",
            "block_count says 2, there is one",
            "M0-W-1211",
            ("blk.1",),
            partial(_u32_value, "qwen2.block_count", 2),
        ),
        Corrupt(
            "no-heads",
            "head_count is 0",
            "M0-W-1211",
            ("head_count",),
            partial(_u32_value, "qwen2.attention.head_count", 0),
        ),
        Corrupt("zero-dimension", "a dimension of 0", "M0-W-1211", ("dimension", "shape"), partial(_dimension, 0)),
        Corrupt(
            "overflowing-dimensions",
            "dimensions whose product exceeds 64 bits",
            "M0-W-1211",
            ("dimension", "shape", "large", "overflow"),
            partial(_dimension, 1 << 60),
        ),
        Corrupt("nine-dimensions", "9 dimensions", "M0-W-1211", ("dimension",), partial(_dimensions, 9)),
        Corrupt("unknown-tensor-type", "tensor type 99", "M0-W-1211", ("type",), partial(_tensor_type, 99)),
        Corrupt(
            "offset-outside",
            "a tensor offset behind the end",
            "M0-W-1211",
            ("offset", "end", "outside"),
            partial(_offset, 1 << 40),
        ),
        Corrupt("offset-unaligned", "a tensor offset of 33", "M0-W-1211", ("align", "offset"), partial(_offset, 33)),
        Corrupt("duplicate-tensor", "two tensors of one name", "M0-W-1211", ("duplicate", "twice"), _twice),
        Corrupt("wrong-shape", "attn_k with half its rows", "M0-W-1214", ("attn_k",), _shape),
        Corrupt(
            "missing-tensor",
            "blk.0.ffn_up.weight is missing",
            "M0-W-1214",
            ("ffn_up",),
            partial(_drop_tensor, "blk.0.ffn_up.weight"),
        ),
        Corrupt(
            "refused-tensor-type",
            "tensor type IQ2_XS",
            "M0-W-1211",
            ("IQ2_XS",),
            partial(_tensor_type, 17),
        ),
        Corrupt("overlap", "two tensors at one offset", "M0-W-1211", ("overlap",), partial(_offset, 0)),
        Corrupt("key-no-utf8", "a key that is no UTF-8", "M0-W-1211", ("utf-8",), _key_without_utf8),
        Corrupt("duplicate-key", "two keys of one name", "M0-W-1211", ("qwen2.block_count",), _duplicate_key),
        Corrupt("array-of-arrays", "an array of arrays", "M0-W-1211", ("array",), _array_of_arrays),
        *(
            Corrupt(name, wrong, clause, words, partial(_changed, changes))
            for name, wrong, clause, words, changes in KEYS
        ),
        Corrupt(
            "more-tokens",
            "more tokens than embedding rows",
            "M0-W-1360",
            ("tokenizer.ggml.tokens",),
            _more_tokens,
        ),
        Corrupt(
            "byte-spelt-otherwise",
            "a byte token that is not spelt <0xXX>",
            "M0-W-1360",
            ("tokenizer.ggml.token_type",),
            _byte_spelt_otherwise,
        ),
        Corrupt(
            "duplicate-token",
            "two tokens of one spelling",
            "M0-W-1360",
            ("tokenizer.ggml.tokens",),
            _duplicate_token,
        ),
        Corrupt(
            "no-query-bias",
            "blk.0.attn_q.bias is missing",
            "M0-W-1214",
            ("attn_q.bias",),
            lambda _: rewritten({}, without="blk.0.attn_q.bias"),
        ),
        Corrupt(
            "another-tensor",
            "a tensor that the architecture does not have",
            "M0-W-1214",
            ("attn_q_norm",),
            lambda _: rewritten({}, more=[Tensor.encode("blk.0.attn_q_norm.weight", np.ones(64), "F32")]),
        ),
        Corrupt("alignment-64", "tensors aligned to 64 bytes", "M0-W-1200", (), partial(_alignment, 64), good=True),
        Corrupt("alignment-256", "tensors aligned to 256 bytes", "M0-W-1200", (), partial(_alignment, 256), good=True),
        Corrupt("without-scores", "no scores beside merges", "M0-W-1211", (), partial(_without, _SCORES), good=True),
        Corrupt("without-optional-keys", "no optional key", "M0-W-1211", (), partial(_without, _OPTIONAL), good=True),
        Corrupt("vendor-keys", "keys of a vendor", "M0-W-1211", (), _odd_key, good=True),
    )
}
"""All crafted files by name."""
