"""Validation before loading (M0-W-1210 to M0-W-1212): every length is checked before it is used.

llama.cpp trusts more of a file than a worker should: it takes version 2 and a file without a name, and some lies end
its process. So the header is read here first, and what llama.cpp gets to see is at least consistent.

Layout, little-endian: "GGUF", u32 version, u64 tensors, u64 keys; for each key a string (u64 length, bytes), u32 type,
value; for each tensor a name, u32 rank, u64 dimensions, u32 type, u64 offset into the data, which begins at the next
multiple of `general.alignment`.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from m0_peer.errors import LoadError

if TYPE_CHECKING:
    from pathlib import Path

# The models of M0-W-1230 and what they are built from. llama.cpp knows a hundred more, which nobody has tried here.
ARCHITECTURES: Final = ("llama", "qwen2", "phi3", "gpt2", "gpt-oss")
_SCALARS: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING: Final = 8
_ARRAY: Final = 9
# ggml types: name, weights and bytes of a block.
_TYPES: Final = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136),
    30: ("BF16", 1, 2), 39: ("MXFP4", 32, 17),
}  # fmt: skip
_FILE_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 25: "IQ4_NL", 30: "IQ4_XS",
    32: "BF16", 38: "MXFP4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the metadata: its elements' type and how many; nobody here needs the elements."""

    kind: int
    length: int


@dataclass(frozen=True, slots=True)
class Header:
    """What the worker needs to know of its file. `metadata` holds numbers, texts and `Array`s."""

    metadata: dict[str, object]
    type_bytes: dict[str, int]  # of each tensor type

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(self.type_bytes.values())

    @property
    def architecture(self) -> str:
        """general.architecture."""
        return str(self.metadata["general.architecture"])

    @property
    def name(self) -> str:
        """general.name: the model's name in /health and `started`."""
        return str(self.metadata["general.name"])

    @property
    def quant_kind(self) -> str:
        """The format the file declares (M0-W-1201): its recipe, for a Q4_K_M file holds several tensor types."""
        most = max(self.type_bytes, key=lambda name: self.type_bytes[name])
        return _FILE_TYPES.get(self.number("general.file_type", -1), most)

    def number(self, key: str, default: int) -> int:
        """An integer of the metadata; `key` may begin with a dot, which stands for the architecture."""
        value = self.metadata.get(f"{self.architecture}{key}" if key.startswith(".") else key, default)
        return value if isinstance(value, int) else default


class _Reader:
    """Reads forward and never outside the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def take(self, n: int, what: str) -> bytes:
        if n > len(self.data) - self.at:
            raise LoadError(f"the file is truncated: {what} has a length of {n}, {len(self.data) - self.at} are left")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, code: str, what: str) -> int:
        (value,) = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}"), what))
        return value  # type: ignore[no-any-return]  # int, float or bool, as the format says

    def string(self, what: str) -> str:
        return self.take(self.number("Q", f"length of {what}"), what).decode(errors="replace")

    def value(self, kind: int, key: str) -> object:
        if kind == _STRING:
            return self.string(f"the string {key}")
        if kind in _SCALARS:
            return self.number(_SCALARS[kind], key)
        if kind != _ARRAY:
            raise LoadError(f"metadata key {key} has the unknown type {kind}")
        element, length = self.number("I", key), self.number("Q", key)
        if element == _STRING:
            if length > len(self.data):
                raise LoadError(f"the array {key} has a length of {length}, more than the file has bytes")
            for _ in range(length):
                self.take(self.number("Q", key), f"a string of {key}")
        elif element in _SCALARS:
            self.take(length * struct.calcsize(f"<{_SCALARS[element]}"), f"the array {key}")
        else:
            raise LoadError(f"metadata key {key} is an array of the unknown type {element}")
        return Array(element, length)


def read_header(path: Path) -> Header:
    """Check a GGUF file's header.

    Raises:
        LoadError: MODEL_LOAD_FAILED; says which property of the file is refused.
    """
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise LoadError("the file is empty: no GGUF magic in it") from None
    with data:
        return _read(_Reader(data))


def _read(r: _Reader) -> Header:
    if (magic := r.take(min(4, len(r.data)), "the magic")) != b"GGUF":
        raise LoadError(f"the magic is {magic!r}, not b'GGUF': this is no GGUF file")
    if (version := r.number("I", "the version")) != 3:
        raise LoadError(f"GGUF version is {version} read as little-endian, only 3 is served: convert the model again")
    n_tensors, n_keys = r.number("Q", "the tensor count"), r.number("Q", "the metadata count")
    if not 0 < n_tensors < 10_000:
        raise LoadError(f"the tensor count is {n_tensors}, it must be from 1 to 9999")
    if n_keys > 100_000:
        raise LoadError(f"the metadata count is {n_keys}, more than any model has")
    metadata: dict[str, object] = {}
    for _ in range(n_keys):
        key = r.string("a metadata key")
        if key in metadata:
            raise LoadError(f"metadata key {key} appears twice")
        metadata[key] = value = r.value(r.number("I", key), key)
        if isinstance(value, float) and not math.isfinite(value):
            raise LoadError(f"metadata key {key} is {value}")
    _check_metadata(metadata)
    return Header(metadata, _check_tensors(r, n_tensors, metadata))


def _check_metadata(metadata: dict[str, object]) -> None:
    for key in ("general.architecture", "general.name"):
        if not metadata.get(key) or not isinstance(metadata[key], str):
            raise LoadError(f"metadata key {key} is missing or not a string")
    architecture = metadata["general.architecture"]
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise LoadError(f"architecture {architecture!r} is not served; known are {known}")
    counts = ["context_length", "embedding_length", "block_count", "attention.head_count"]
    for name in counts:
        key = f"{architecture}.{name}"
        value = metadata.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
            raise LoadError(f"metadata key {key} is missing or no count: {value!r}")
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, Array) or tokens.kind != _STRING:
        raise LoadError("metadata key tokenizer.ggml.tokens is missing or no array of strings")
    for key, value in metadata.items():
        special = key.startswith("tokenizer.ggml.") and key.endswith("_token_id")
        if special and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < tokens.length):
            raise LoadError(f"metadata key {key} is {value!r}, which is no token")
    # llama.cpp reads as many types and scores as there are tokens, however many the file has.
    for name, kind in (("token_type", 5), ("scores", 6)):
        key = f"tokenizer.ggml.{name}"
        if key in metadata and metadata[key] != Array(kind, tokens.length):
            raise LoadError(f"metadata key {key} does not hold one number of GGUF type {kind} for each token")


def _check_tensors(r: _Reader, n_tensors: int, metadata: dict[str, object]) -> dict[str, int]:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
        raise LoadError(f"general.alignment is {alignment!r}, it must be a power of two")
    ends: dict[str, int] = {}
    type_bytes: dict[str, int] = {}
    for _ in range(n_tensors):
        name = r.string("a tensor's name")
        if name in ends:
            raise LoadError(f"tensor {name} appears twice: a duplicate")
        rank = r.number("I", f"rank of {name}")
        if not 1 <= rank <= 4:
            raise LoadError(f"tensor {name} has {rank} dimensions, 1 to 4 are possible")
        dimensions = [r.number("Q", f"a dimension of {name}") for _ in range(rank)]
        if not 0 < math.prod(dimensions) < 1 << 48:
            raise LoadError(f"tensor {name} has the dimensions {dimensions}: zero, or too large")
        kind, offset = r.number("I", f"type of {name}"), r.number("Q", f"offset of {name}")
        if kind not in _TYPES:
            raise LoadError(f"tensor {name} has type {kind}, which is unknown or not served")
        type_name, weights, size = _TYPES[kind]
        if dimensions[0] % weights or offset % alignment:
            raise LoadError(f"tensor {name}: dimension {dimensions[0]} or offset {offset} breaks its alignment")
        nbytes = math.prod(dimensions) // weights * size
        ends[name] = offset + nbytes
        type_bytes[type_name] = type_bytes.get(type_name, 0) + nbytes
    start = -(-r.at // alignment) * alignment
    for name, end in ends.items():
        if start + end > len(r.data):
            raise LoadError(
                f"the file is truncated: tensor {name} ends at byte {start + end}, outside the file of {len(r.data)}"
            )
    return type_bytes
