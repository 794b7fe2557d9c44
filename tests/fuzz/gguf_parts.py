"""A GGUF file taken apart, changed without regard to sense, and put together again."""

from __future__ import annotations

import copy
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gguf
from m0_worker.gguf import GgmlType

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

STRING, ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_KINDS = (*_NUMBERS, STRING, ARRAY)
_WHOLE = (0, 1, 2, 3, 7, 8, 16, 31, 32, 33, 64, 127, 128, 255, 256, 1000, 4095, 4096, 65535, 1 << 20, 1 << 31, 1 << 40)
_WIDE = (-1, 1 << 62, (1 << 63) - 1, (1 << 64) - 1)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, 3.4e38, float("inf"), float("-inf"), float("nan"))
_TEXTS = (
    "", "a", "gpt2", "llama", "qwen2", "phi3", "gpt-oss", "bert", "default", "smollm", "tekken", "none", "yarn",
    "linear", "longrope", "<0x41>", "<s>", "</s>", "<|endoftext|>", "\0", "\n", "\u0120", "\u2581", "\ufffd", "a b",
    "x" * 300,
)  # fmt: skip
_TYPES = (*(int(kind) for kind in GgmlType), 4, 9, 15, 16, 24, 27, 41, 255, (1 << 32) - 1)


@dataclass
class Key:
    """A metadata entry; of an array, kind is ARRAY, element its elements' kind, and value a list."""

    name: bytes
    kind: int
    value: Any
    element: int = 0


@dataclass
class Record:
    """A tensor's record."""

    name: bytes
    dims: list[int]
    kind: int
    offset: int


@dataclass
class Parts:
    """All of a file."""

    keys: list[Key]
    records: list[Record]
    data: bytes
    n_records: int | None = None
    n_keys: int | None = None

    @classmethod
    def of(cls, path: Path) -> Parts:
        """Take a sound file apart."""
        reader = gguf.GGUFReader(path)
        keys = []
        for name, entry in reader.fields.items():
            if name.startswith("GGUF."):
                continue
            value = entry.contents()
            value = value.encode() if isinstance(value, str) else value
            if entry.types[0] == ARRAY:
                value = [item.encode() if isinstance(item, str) else item for item in value]
            keys.append(Key(name.encode(), int(entry.types[0]), value, int(entry.types[-1])))
        start = min(int(tensor.data_offset) for tensor in reader.tensors)
        records = [
            Record(t.name.encode(), [int(n) for n in t.shape], int(t.tensor_type), int(t.data_offset) - start)
            for t in reader.tensors
        ]
        return cls(keys, records, path.read_bytes()[start:])

    def join(self) -> bytes:
        """The file's bytes."""
        n_records = len(self.records) if self.n_records is None else self.n_records
        n_keys = len(self.keys) if self.n_keys is None else self.n_keys
        out = [struct.pack("<4sIQQ", b"GGUF", 3, n_records, n_keys)]
        for key in self.keys:
            out += [_text(key.name), struct.pack("<I", key.kind), _value(key.kind, key.value, key.element)]
        for record in self.records:
            out += [_text(record.name), struct.pack(f"<I{len(record.dims)}Q", len(record.dims), *record.dims)]
            out.append(struct.pack("<IQ", record.kind, record.offset))
        head = b"".join(out)
        return head + bytes(-len(head) % 32) + self.data


def _text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any, element: int) -> bytes:
    if kind == STRING:
        return _text(value)
    if kind == ARRAY:
        head = struct.pack("<IQ", element, len(value))
        if element == STRING:
            return head + b"".join(map(_text, value))
        return head + b"".join(_number(element, item) for item in value)
    return _number(kind, value)


def _number(kind: int, value: Any) -> bytes:
    code = _NUMBERS[kind]
    if code in "fd":
        return struct.pack(f"<{code}", value)
    size = struct.calcsize(code)
    return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def mutant(bases: list[Parts], draw: random.Random) -> bytes:
    """One to four changes of one of the bases."""
    parts = copy.deepcopy(draw.choice(bases))
    for _ in range(draw.choice((1, 1, 1, 2, 2, 4))):
        draw.choice(_CHANGES)(parts, draw)
    file = parts.join()
    if draw.random() < 0.05:
        file = file[: draw.randrange(len(file))]
    return file


def _random_number(kind: int, draw: random.Random) -> Any:
    if _NUMBERS[kind] in "fd":
        return draw.choice(_FLOATS) if kind == 12 or draw.random() < 0.9 else draw.uniform(-10, 10)
    return draw.choice(_WIDE) if draw.random() < 0.1 else draw.choice(_WHOLE)


def _random_text(draw: random.Random) -> bytes:
    return draw.randbytes(draw.randrange(12)) if draw.random() < 0.3 else draw.choice(_TEXTS).encode()


def _random_value(draw: random.Random) -> tuple[int, Any, int]:
    """A value of any kind: kind, value, element kind."""
    kind = draw.choice(_KINDS)
    if kind == STRING:
        return kind, _random_text(draw), 0
    if kind == ARRAY:
        element = draw.choice((*_NUMBERS, STRING))
        make = _random_text if element == STRING else (lambda d: _random_number(element, d))
        return kind, [make(draw) for _ in range(draw.choice((0, 1, 2, 300)))], element
    return kind, _random_number(kind, draw), 0


def _another_value(parts: Parts, draw: random.Random) -> None:
    """Of the same kind."""
    key = draw.choice(parts.keys)
    if key.kind == STRING:
        key.value = _random_text(draw)
    elif key.kind == ARRAY:
        _another_element(parts, draw)
    else:
        key.value = _random_number(key.kind, draw)


def _another_kind(parts: Parts, draw: random.Random) -> None:
    key = draw.choice(parts.keys)
    key.kind, key.value, key.element = _random_value(draw)


def _another_element(parts: Parts, draw: random.Random) -> None:
    arrays = [key for key in parts.keys if key.kind == ARRAY and key.value]
    if not arrays:
        return
    key = draw.choice(arrays)
    for _ in range(draw.choice((1, 1, 3))):
        at = draw.randrange(len(key.value))
        key.value[at] = _random_text(draw) if key.element == STRING else _random_number(key.element, draw)


def _another_length(parts: Parts, draw: random.Random) -> None:
    arrays = [key for key in parts.keys if key.kind == ARRAY and key.value]
    if not arrays:
        return
    key = draw.choice(arrays)
    if draw.random() < 0.5:
        del key.value[draw.randrange(len(key.value)) :]
    else:
        key.value += draw.choices(key.value, k=draw.choice((1, 2, 50)))


def _token_like_others(parts: Parts, draw: random.Random) -> None:
    """A vocabulary with a special token more, or one spelt as another rule wants it."""
    tokens = next((k for k in parts.keys if k.name == b"tokenizer.ggml.tokens" and k.kind == ARRAY and k.value), None)
    types = next(
        (k for k in parts.keys if k.name == b"tokenizer.ggml.token_type" and k.kind == ARRAY and k.value), None
    )
    if tokens is None or types is None or tokens.element != STRING:
        return
    at = draw.randrange(len(tokens.value))
    tokens.value[at] = _random_text(draw)
    if at < len(types.value) and types.element != STRING:
        types.value[at] = draw.randrange(8)


def _new_key(parts: Parts, draw: random.Random) -> None:
    known = (
        "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix",
        "tokenizer.ggml.scores", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.fim_pad_token_id", "split.count",
        "general.alignment", "general.file_type", "tokenizer.huggingface.json", "tokenizer.ggml.unknown_token_id",
        *(f"{a}.{k}" for a in ("llama", "qwen2", "phi3", "gpt-oss") for k in (
            "attention.key_length", "attention.value_length", "rope.scaling.type", "rope.scaling.factor",
            "rope.scaling.original_context_length", "rope.scaling.attn_factor", "attention.sliding_window",
            "expert_count",
        )),
    )  # fmt: skip
    kind, value, element = _random_value(draw)
    parts.keys.insert(draw.randrange(len(parts.keys) + 1), Key(draw.choice(known).encode(), kind, value, element))


def _no_key(parts: Parts, draw: random.Random) -> None:
    if len(parts.keys) > 1:
        del parts.keys[draw.randrange(len(parts.keys))]


def _key_again(parts: Parts, draw: random.Random) -> None:
    draw.choice(parts.keys).name = draw.choice(parts.keys).name


def _key_renamed(parts: Parts, draw: random.Random) -> None:
    draw.choice(parts.keys).name = _random_text(draw)


def _another_shape(parts: Parts, draw: random.Random) -> None:
    if parts.records:
        record = draw.choice(parts.records)
        choice = draw.random()
        if choice < 0.4 and record.dims:
            record.dims[draw.randrange(len(record.dims))] = draw.choice(_WHOLE)
        elif choice < 0.6:
            record.dims.reverse()
        elif choice < 0.8:
            record.dims.append(draw.choice(_WHOLE))
        elif record.dims:
            record.dims.pop()


def _another_type(parts: Parts, draw: random.Random) -> None:
    if parts.records:
        draw.choice(parts.records).kind = draw.choice(_TYPES)


def _another_offset(parts: Parts, draw: random.Random) -> None:
    if parts.records:
        draw.choice(parts.records).offset = draw.choice((*_WHOLE, len(parts.data), len(parts.data) - 32, *_WIDE[1:]))


def _no_record(parts: Parts, draw: random.Random) -> None:
    if parts.records:
        del parts.records[draw.randrange(len(parts.records))]


def _record_renamed(parts: Parts, draw: random.Random) -> None:
    if parts.records:
        one, other = draw.choice(parts.records), draw.choice(parts.records)
        one.name = draw.choice((other.name, _random_text(draw), one.name.replace(b"weight", b"bias")))


def _other_counts(parts: Parts, draw: random.Random) -> None:
    if draw.random() < 0.5:
        parts.n_records = draw.choice((*_WHOLE, *_WIDE[1:]))
    else:
        parts.n_keys = draw.choice((*_WHOLE, *_WIDE[1:]))


def _less_data(parts: Parts, draw: random.Random) -> None:
    parts.data = parts.data[: draw.randrange(len(parts.data) + 1)]


_CHANGES: tuple[Callable[[Parts, random.Random], None], ...] = (
    _another_value, _another_value, _another_value, _another_kind, _another_kind, _another_element, _another_length,
    _token_like_others, _token_like_others, _new_key, _new_key, _no_key, _key_again, _key_renamed, _another_shape,
    _another_type, _another_offset, _no_record, _record_renamed, _other_counts, _less_data,
)  # fmt: skip
