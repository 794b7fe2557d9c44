"""Golden vectors for M0-W-1363 and M0-W-1821: texts and ids that two independent libraries agree on.

llama.cpp reads a made vocabulary as GGUF, Hugging Face tokenizers reads the same vocabulary as tokenizer.json; a vector
is kept only where both give the same ids. The worker's tokenizers have no part in making them.
"""

# ruff: noqa: RUF001  (characters that look alike are what a tokenizer must tell apart)

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, cast

import tokenizers
from m0_models import tokenizer_json, vocabularies

from m0_parity.llamacpp import BUILD, Model

Json = dict[str, object]
Vector = tuple[str, str, str, int, bool, bool]

# File name and worker backend by vocabulary.
FILES: Final = {
    "qwen2": "gguf-bpe",
    "llama-bpe": "gguf-bpe",
    "gpt-2": "gguf-bpe",
    "phi-3": "gguf-bpe",
    "gpt-4o": "hf-json",
}
# Special tokens to try by vocabulary: one that opens, one that ends, and one that looks like neither.
_SPECIALS: Final = {
    "qwen2": ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    "llama-bpe": ("<|start_header_id|>", "<|eot_id|>", "<|begin_of_text|>"),
    "gpt-2": ("<|endoftext|>", "<|endoftext|>", "<|endoftext|>"),
    "phi-3": ("<|user|>", "<|end|>", "<|endoftext|>"),
    "gpt-4o": ("<|startoftext|>", "<|return|>", "<|call|>"),
}
_LONG: Final = 400
# llama.cpp matches some patterns by a recursion per character, which a usual stack is too small for.
_STACK: Final = 1 << 30
_PANGRAM: Final = "The quick brown fox jumps over the lazy dog, and 42 others don't. "


def texts(name: str) -> list[Vector]:
    """Category, description, unit of text, how often it is repeated, add_special, parse_special."""
    opens, ends, other = _SPECIALS[name]
    plain: list[tuple[str, str, str]] = [
        ("basic", "one word", "Hello"),
        ("basic", "a sentence", "Hello, world! The worker loads one model."),
        ("basic", "leading and inner spaces", " Hello  there"),
        ("basic", "cases", "camelCase PascalCase SCREAMING_CASE"),
        ("basic", "code", "def f(x):\n    return x + 1  # done\n"),
        ("basic", "an address", "https://example.org/a?b=c&d=42#e"),
        ("contractions", "lower case", "it's we'll they're I'd don't you've I'm"),
        ("contractions", "upper case", "IT'S WE'LL THEY'RE I'D DON'T"),
        ("digits", "short and long runs", "1 12 123 1234 12345 123456789"),
        ("digits", "between letters", "a1b22c333d4444"),
        ("digits", "formatted", "$1,234.56 on 2025-11-30 at 23:59"),
        ("whitespace", "runs of spaces", "a  b   c    d     e"),
        ("whitespace", "line ends", "a\nb\n\nc\r\nd\r\n\r\n e"),
        ("whitespace", "tabs", "\ta\t\tb \t c\t "),
        ("whitespace", "nothing else", "   "),
        ("whitespace", "line ends after spaces", "end   \n\n  start"),
        ("multibyte", "two bytes a character", "Größe, déjà vu, naïve"),
        ("multibyte", "Cyrillic", "Быстрая лиса"),
        ("multibyte", "Chinese", "你好，世界！"),
        ("multibyte", "Japanese", "古池や蛙飛び込む水の音"),
        ("multibyte", "Korean", "빠른 갈색 여우"),
        ("multibyte", "Arabic", "السلام عليكم"),
        ("multibyte", "four bytes a character", "😀🚀✨"),
        ("multibyte", "joined emoji", "👩‍👩‍👧‍👦 👍🏽 🇩🇪"),
        ("multibyte", "mixed scripts", "a中b文 😀c"),
        ("empty", "no text", ""),
    ]
    vectors = [(category, what, text, 1, False, True) for category, what, text in plain]
    chat = f"{opens}user\nHello{ends}\n{opens}assistant\n"
    vectors += [
        ("bos-eos", "with the tokens around a text", "Hello, world!", 1, True, True),
        ("bos-eos", "with the tokens around nothing", "", 1, True, True),
        ("bos-eos", "spelt out in the text as well", f"{other}Hello", 1, True, True),
        ("special", f"{opens} is one token", opens, 1, False, True),
        ("special", f"{opens} as text", opens, 1, False, False),
        ("special", "a chat", chat, 1, True, True),
        ("special", "a chat as text", chat, 1, True, False),
        ("special", "between words and spaces", f"a {opens} b\n{ends}  c", 1, False, True),
        ("special", "spelt wrong", f"{opens[:-1]} >", 1, False, True),
        ("special", "user-defined", "x<tool_call>y</tool_call>", 1, False, True),
        ("long", "a sentence over and over", _PANGRAM, 500, True, True),
        ("long", "one letter", "x", 32768, False, True),
        ("long", "one character of three bytes", "中", 8000, False, True),
    ]
    return vectors


def build(name: str) -> Json:
    """The golden file of a vocabulary.

    Raises:
        ValueError: the two libraries disagree on a vector.
    """
    made = vocabularies.make(name)
    with tempfile.TemporaryDirectory() as folder:
        llama = Model(made.write(Path(folder) / "vocabulary.gguf"), vocab_only=True)
    scored = name in vocabularies.SENTENCEPIECE
    document = tokenizer_json.sentencepiece(made) if scored else tokenizer_json.byte_level(made)
    library = tokenizers.Tokenizer.from_str(json.dumps(document))
    vectors = [_vector(llama, library, vector, scored=scored) for vector in texts(name)]
    return {
        "schema_version": 1,
        "backend": FILES[name],
        "vocabulary": {"name": name, "sha256": made.digest, "made_by": "models/vocabularies.py"},
        "provenance": {
            "made_by": "python -m m0_parity.tokenizers golden --write",
            "libraries": [f"llama.cpp (xllamacpp {BUILD})", f"tokenizers {importlib.metadata.version('tokenizers')}"],
        },
        "sha256": digest(vectors),
        "vectors": vectors,
    }


def digest(vectors: list[Json]) -> str:
    """Checksum of the vectors, as written in the file."""
    return hashlib.sha256(json.dumps(vectors, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def ids_digest(ids: list[int]) -> str:
    """Checksum of an id sequence that is too long to be written out."""
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()


def build_all() -> dict[str, Json]:
    """Every golden file by vocabulary, built in a thread with a deep stack."""
    before = threading.stack_size(_STACK)
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            return dict(zip(FILES, pool.map(build, FILES), strict=True))
    finally:
        threading.stack_size(before)


def write(folder: Path) -> list[Path]:
    """Write every golden file."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / f"{name}.json", document) for name, document in build_all().items()]


def check(folder: Path) -> list[str]:
    """Build the golden files again, and say which differ from those in the folder; library versions may."""
    built = build_all().items()
    return [
        name for name, document in built if _expectations(_load(folder / f"{name}.json")) != _expectations(document)
    ]


def _vector(llama: Model, library: tokenizers.Tokenizer, vector: Vector, *, scored: bool) -> Json:
    category, description, unit, times, add_special, parse_special = vector
    text = unit * times
    ids = llama.tokenize(text, add_special=add_special, parse_special=parse_special)
    library.encode_special_tokens = not parse_special
    others = library.encode(text, add_special_tokens=add_special).ids
    if ids != others:
        raise ValueError(f"{category}, {description}: llama.cpp says {ids[:60]}, tokenizers says {others[:60]}")
    data = b"".join(map(llama.piece, ids))
    decoded = (data.removeprefix(b" ") if scored else data).decode()
    if decoded != (back := library.decode(ids, skip_special_tokens=True)):
        raise ValueError(f"{category}, {description}: llama.cpp decodes {decoded!r}, tokenizers {back!r}")
    expected: Json = (
        {"ids": ids} if len(ids) <= _LONG else {"count": len(ids), "first": ids[:20], "ids_sha256": ids_digest(ids)}
    )
    kept: Json = (
        {"decoded": decoded}
        if len(decoded) <= _LONG
        else {"decoded_sha256": hashlib.sha256(decoded.encode()).hexdigest()}
    )
    return {
        "category": category,
        "description": description,
        "text": unit,
        "times": times,
        "add_special": add_special,
        "parse_special": parse_special,
        **expected,
        **kept,
    }


def _expectations(document: Json) -> Json:
    return {key: value for key, value in document.items() if key != "provenance"}


def _load(path: Path) -> Json:
    return cast("Json", json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _write(path: Path, document: Json) -> Path:
    """One vector a line, so that a change shows as one line in a diff."""
    vectors = cast("list[Json]", document["vectors"])
    head = json.dumps({**document, "vectors": []}, indent=1, ensure_ascii=False).removesuffix("[]\n}")
    lines = ",\n  ".join(json.dumps(vector, ensure_ascii=False) for vector in vectors)
    path.write_text(f"{head}[\n  {lines}\n ]\n}}\n", encoding="utf-8")
    return path
