"""Parses a GGUF v3 header: metadata and tensor records, every length checked before it is used.

Layout (little-endian): magic "GGUF", u32 version, u64 tensor count, u64 metadata count; then per key a string
(u64 length, bytes), u32 value type, value; then per tensor a name, u32 n_dimensions, u64 dimensions fastest first,
u32 type, u64 offset from the start of the data section, which begins at the next multiple of the alignment.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from m0_worker.gguf.cursor import Cursor
from m0_worker.gguf.metadata import Metadata, read_value
from m0_worker.gguf.types import UNSUPPORTED, GgmlType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAGIC: Final = b"GGUF"
VERSION: Final = 3
MAX_TENSORS: Final = 10_000  # M0-W-1210: the count must be below
MAX_METADATA: Final = 100_000
MAX_KEY: Final = 65_535  # bytes; the format's own limit
MAX_NAME: Final = 1_024
MAX_DIMENSIONS: Final = 4
MAX_WEIGHTS: Final = 1 << 48  # far above any file, far below overflow
DEFAULT_ALIGNMENT: Final = 32


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies and what it holds.

    Attributes:
        name: as in the file, such as ``blk.0.attn_q.weight``.
        shape: NumPy order, rows of the matrix first: (out, in), experts (E, out, in).
        type: storage type.
        offset: absolute byte offset in the file.
        nbytes: stored bytes.
    """

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header: metadata, tensor records and the data section's start and alignment in bytes."""

    metadata: Metadata
    tensors: dict[str, TensorInfo]
    data_offset: int
    alignment: int


def parse_header(buffer: memoryview, path: str, refuse: Callable[[Metadata], None] | None = None) -> Header:
    """Parse the header of a GGUF v3 file.

    What is not supported comes first: a version, then what ``refuse`` finds, then storage types; only then is looked at
    what could be damaged.

    Args:
        buffer: the whole file, mapped.
        path: named in errors.
        refuse: called with the metadata as soon as they are read; raises for models that cannot be served.

    Raises:
        GgufError: whatever makes the header unusable; nothing is read or allocated before it is checked.
    """
    c = Cursor(buffer, path)
    c.need(24, "header")
    magic = bytes(buffer[:4])
    if magic != MAGIC:
        raise c.fail("bad-magic", f"magic bytes are {magic.hex(' ')}, a GGUF file starts with 47 47 55 46")
    c.at = 4
    version = c.u32("version")
    if version != VERSION:
        swapped = version == int.from_bytes(VERSION.to_bytes(4, "big"), "little")
        what = "the file is big-endian" if swapped else f"GGUF version is {version}"
        cure = "convert the original model again with a current converter"
        if version == 2:  # the one that many old files have, and that differs in nothing but the number
            cure += ", or let llama.cpp write the file again: llama-quantize OLD.gguf NEW.gguf COPY"
        raise c.fail("bad-version", f"{what}, only little-endian version {VERSION} is supported", cure)
    n_tensors = c.u64("tensor count")
    if n_tensors >= MAX_TENSORS:
        raise c.fail("too-many-tensors", f"tensor count is {n_tensors}, it must be below {MAX_TENSORS}")
    n_metadata = c.u64("metadata count")
    if n_metadata > MAX_METADATA:
        raise c.fail("too-much-metadata", f"metadata count is {n_metadata}, the limit is {MAX_METADATA}")

    values: dict[str, object] = {}
    for i in range(n_metadata):
        key = c.name(f"metadata key {i}", MAX_KEY)
        if key in values:
            raise c.fail("duplicate-key", "metadata key appears twice", where=f"key {key!r}")
        values[key] = read_value(c, key, c.u32(f"type of key {key!r}"))
    metadata = Metadata(values)
    if refuse is not None:
        refuse(metadata)
    records = [_tensor_record(c, i) for i in range(n_tensors)]
    _refuse_types(c, records)
    alignment = _alignment(c, metadata)
    data_offset = -(-c.at // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for record in records:
        if record.name in tensors:
            raise c.fail("duplicate-tensor", "tensor appears twice", where=f"tensor {record.name!r}")
        tensors[record.name] = _place(c, record, data_offset, alignment)
    _refuse_overlap(c, tensors)
    return Header(metadata, tensors, data_offset, alignment)


def _alignment(c: Cursor, metadata: Metadata) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 1 << 20 or value & (value - 1):
        raise c.fail("bad-alignment", f"general.alignment is {value!r}, it must be a power of two up to 1048576")
    return value


@dataclass(frozen=True, slots=True)
class _Record:
    """A tensor record as it stands in the file."""

    name: str
    dims: tuple[int, ...]
    kind: int
    offset: int


def _tensor_record(c: Cursor, i: int) -> _Record:
    name = c.name(f"name of tensor {i}", MAX_NAME)
    where = f"tensor {name!r}"
    n_dims = c.u32(f"dimension count of {where}")
    if not 1 <= n_dims <= MAX_DIMENSIONS:
        raise c.fail("bad-dimensions", f"{n_dims} dimensions, 1 to {MAX_DIMENSIONS} are possible", where=where)
    dims = tuple(c.u64(f"dimension {j} of {where}") for j in range(n_dims))
    return _Record(name, dims, c.u32(f"type of {where}"), c.u64(f"offset of {where}"))


def _refuse_types(c: Cursor, records: Sequence[_Record]) -> None:
    """Name every storage type that is not supported, and the first tensor that has one."""
    known = {int(kind) for kind in GgmlType}
    refused = [record for record in records if record.kind not in known]
    if not refused:
        return
    kinds = dict.fromkeys(record.kind for record in refused)
    named = [f"type {UNSUPPORTED[kind]} ({kind})" if kind in UNSUPPORTED else f"type id {kind}" for kind in kinds]
    what = f"{named[0]} is not supported" if len(named) == 1 else f"{', '.join(named)} are not supported"
    cure = f"quantize the model to one of {', '.join(kind.name for kind in GgmlType)}"
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    raise c.fail("unsupported-type", what, cure, where=f"tensor {refused[0].name!r}{more}")


def _place(c: Cursor, record: _Record, data_offset: int, alignment: int) -> TensorInfo:
    where, kind, offset = f"tensor {record.name!r}", GgmlType(record.kind), record.offset
    n_weights = math.prod(record.dims)
    if n_weights < 1:
        raise c.fail("bad-dimensions", f"dimensions {list(record.dims)} hold a zero", where=where)
    if n_weights > MAX_WEIGHTS:
        raise c.fail("bad-dimensions", f"dimensions {list(record.dims)} overflow", where=where)
    if record.dims[0] % kind.block_size:
        what = f"a row of {record.dims[0]} is no multiple of {kind.name}'s block of {kind.block_size}"
        raise c.fail("bad-dimensions", what, where=where)
    nbytes = kind.nbytes(n_weights)
    if offset % alignment:
        raise c.fail("bad-offset", f"offset {offset} is no multiple of the alignment {alignment}", where=where)
    start, end, size = data_offset + offset, data_offset + offset + nbytes, len(c.buffer)
    if start >= size:
        raise c.fail(
            "bad-offset", f"offset {offset} lies outside the file: data at byte {start} of {size}", where=where
        )
    if end > size:
        what = f"the file is truncated: tensor data ends at byte {end}, the file at {size}"
        raise c.fail("truncated", what, where=where)
    return TensorInfo(record.name, tuple(reversed(record.dims)), kind, start, nbytes)


def _refuse_overlap(c: Cursor, tensors: dict[str, TensorInfo]) -> None:
    in_order = sorted(tensors.values(), key=lambda t: t.offset)
    for left, right in itertools.pairwise(in_order):
        if left.offset + left.nbytes > right.offset:
            what = f"offset overlaps tensor {left.name!r}"
            raise c.fail("bad-offset", what, where=f"tensor {right.name!r}")
