"""Writing a GGUF container: metadata and tensors in, one file out, through the gguf package's writer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFValueType

from m0_models.quantize import Bytes, quantize

if TYPE_CHECKING:
    from pathlib import Path

FILE_TYPES: Final = {  # general.file_type, enum llama_ftype; a pure file carries the number of the S mixture
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q8_0": 7,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q3_K": 11,
    "Q4_K": 14,
    "Q4_K_M": 15,
    "Q5_K": 16,
    "Q6_K": 18,
    "Q2_K": 21,
    "IQ4_NL": 25,
    "IQ4_XS": 30,
    "BF16": 32,
    "MXFP4": 38,
}


@dataclass(frozen=True, slots=True)
class U64:
    """A metadata integer to be stored as u64 instead of u32."""

    value: int


Metadata = Mapping[str, object]
"""Key to bool, int (stored as u32), U64, float (f32), str, or a list of str, int (i32) or float."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named tensor; ``raw`` has numpy order (rows first) with encoded bytes along the last axis."""

    name: str
    type: str
    raw: Bytes

    @classmethod
    def encode(cls, name: str, values: npt.ArrayLike, kind: str) -> Tensor:
        """Quantize float ``values`` (numpy order, e.g. (out, in)) as ``kind``."""
        return cls(name, kind, quantize(np.asarray(values, dtype=np.float32), kind))


def write(
    path: Path,
    architecture: str,
    metadata: Metadata,
    tensors: Iterable[Tensor],
    alignment: int = 32,
    *,
    complete: bool = True,
) -> Path:
    """Write one GGUF v3 file and return its path; parents are created, an existing file is replaced.

    ``complete`` adds the keys of :func:`completed`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    for key, value in (completed(metadata) if complete else metadata).items():
        add(writer, key, value)
    for tensor in tensors:
        writer.add_tensor(tensor.name, *_stored(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def completed(metadata: Metadata) -> dict[str, object]:
    """The metadata with every key that the format calls optional and some loader insists on.

    A file of ours is to be refused for what it tests, never for what nobody thought of: `scores` beside merges, a type
    for each token. What a loader makes of their absence is tested by files that lack them.
    """
    keys = dict(metadata)
    keys.setdefault("general.type", "model")
    keys.setdefault("general.quantization_version", 2)
    tokens = keys.get("tokenizer.ggml.tokens")
    if isinstance(tokens, Sequence):
        keys.setdefault("tokenizer.ggml.scores", [0.0] * len(tokens))
        keys.setdefault("tokenizer.ggml.token_type", [1] * len(tokens))
        keys.setdefault("tokenizer.ggml.add_eos_token", False)
        if (eos := keys.get("tokenizer.ggml.eos_token_id")) is not None:
            keys.setdefault("tokenizer.ggml.padding_token_id", eos)
    return keys


def _stored(tensor: Tensor) -> tuple[npt.NDArray[np.generic], None, GGMLQuantizationType | None]:
    """The arguments of add_tensor: plain floats as arrays of their type, blocks as bytes with a named type."""
    if tensor.type == "F32":
        return tensor.raw.view(np.float32), None, None
    if tensor.type == "F16":
        return tensor.raw.view(np.float16), None, None
    return tensor.raw, None, GGMLQuantizationType[tensor.type]


def add(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    """Add one metadata entry with the type that Metadata says; an empty list is left out."""
    match value:
        case bool():
            writer.add_bool(key, value)
        case U64():
            writer.add_uint64(key, value.value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case Sequence() if value:
            first = value[0]
            element = {int: GGUFValueType.INT32, float: GGUFValueType.FLOAT32}.get(type(first), GGUFValueType.STRING)
            writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=element)
        case Sequence():
            pass  # the format has no way to say what an empty array holds
        case _:
            raise TypeError(f"{key}: {type(value).__name__} has no GGUF type here")
