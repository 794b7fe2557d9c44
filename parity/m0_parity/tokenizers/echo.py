"""Vectors of the echo probes: texts filled up to a known number of tokens, and the pieces that two libraries agree on.

As with the golden vectors, llama.cpp reads the vocabulary as GGUF and Hugging Face tokenizers as tokenizer.json, and
the worker's tokenizers have no part in it. `m0-parity tokenizers echo --write` stores them with the probes.
"""

# ruff: noqa: RUF001  (characters that look alike are what a tokenizer must tell apart)

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

import tokenizers
from m0_models import tokenizer_json, vocabularies
from m0_models.probes.echo import FILLER, LAG, NAMES, vectors

from m0_parity.llamacpp import Model
from m0_parity.tokenizers.golden import Json, texts

__all__ = ["FOLDER", "NAMES", "build", "vectors", "write"]

FOLDER: Final = Path("models/m0_models/probes/echo_vectors")
_MORE: Final = (
    ("basic", "one letter", "a"),
    ("basic", "punctuation", "...!!! (a) [b] {c} <d> -- ++ =="),
    ("digits", "with signs and points", "-1.5e10 +3 0x1F 1_000"),
    ("digits", "other scripts", "٣٤٥ ４２"),
    ("whitespace", "a no-break space", "a\u00a0b \u00a0 c"),
    ("whitespace", "leading", "     five"),
    ("contractions", "curly", "it’s we’ll"),
    ("multibyte", "combining marks", "e\u0301 a\u0308 n\u0303"),
    ("multibyte", "Devanagari", "नमस्ते"),
    ("multibyte", "a zero-width joiner", "ZWJ\u200dx"),
)


def build(name: str) -> Json:
    """The vectors of one vocabulary, those of too many tokens left out.

    Raises:
        ValueError: the two libraries disagree on a string.
    """
    made = vocabularies.make(name)
    with tempfile.TemporaryDirectory() as folder:
        llama = Model(made.write(Path(folder) / "vocabulary.gguf"), vocab_only=True)
    scored = name in vocabularies.SENTENCEPIECE
    document = tokenizer_json.sentencepiece(made) if scored else tokenizer_json.byte_level(made)
    library = tokenizers.Tokenizer.from_str(json.dumps(document))
    kinds = [
        (c, d, unit * times) for c, d, unit, times, special, parse in texts(name) if parse and len(unit * times) < 400
    ]
    found: list[Json] = []
    for category, description, text in dict.fromkeys((*kinds, *_MORE)):
        vector = _vector(llama, library, text)
        if vector and vector["pieces"] and all(vector["text"] != other["text"] for other in found):
            found.append({"category": category, "description": description, **vector})
    return {"vocabulary": name, "sha256": made.digest, "lag": LAG, "vectors": found}


def _vector(llama: Model, library: tokenizers.Tokenizer, text: str) -> Json | None:
    """The text filled up, its pieces in hexadecimal, and how many tokens begin the sequence unasked; None: too long."""
    filled = text + FILLER * (LAG + 1)
    extra = len(llama.tokenize(filled, add_special=True)) - (LAG + 1)
    if extra > LAG // 2:
        return None
    filled = text + FILLER * (LAG + 1 - extra)
    ids = llama.tokenize(filled, add_special=True)
    others = library.encode(filled, add_special_tokens=True).ids
    if ids != others:
        raise ValueError(f"{text!r}: llama.cpp says {ids}, tokenizers says {others}")
    if len(ids) != LAG + 1:
        raise ValueError(f"{text!r}: {len(ids)} tokens once filled up, not {LAG + 1}: a merge touches the filler")
    ends = next((index for index, token in enumerate(ids) if llama.is_end(token)), None)
    pieces = [llama.piece(token).hex() for token in ids[: extra if ends is None else ends]]
    return {"text": filled, "pieces": pieces, "ends": ends is not None}


def write(folder: Path) -> list[Path]:
    """Store the vectors of every vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in NAMES:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(build(name), indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
        paths.append(path)
    return paths
