"""Load a file as the worker does, and serve a job with it: every outcome has a name, and nothing else may come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from m0_models import miniatures, vocabularies
from m0_models.container import write
from m0_models.corrupt import read_back
from m0_models.probes import metronome
from m0_worker.adapters import ModelError
from m0_worker.devices import open_device
from m0_worker.engine import load_model
from m0_worker.errors import OutOfMemory
from m0_worker.gguf import GgufError
from m0_worker.opening import open_model
from m0_worker.sampling import SamplingParams
from m0_worker.tokenizers import TokenizerError
from m0_worker.trial import try_out

if TYPE_CHECKING:
    from pathlib import Path

    from m0_models.shapes import Architecture

TEXTS: Final = ("", "Hello, world 123", "<|endoftext|>\n\n  'll", "\u00e9\u4e2d\U0001f600", "\0\x7f", "a" * 64)
_MEMORY: Final = 256 << 20


def outcome(path: Path) -> str:
    """What becomes of a file: the reason of its refusal, or how it serves.

    "served" says that jobs gave tokens; "not finite" that a job's numbers were none although the first token's were: an
    embedding that no trial token takes, or values that overflow in some contexts only.
    """
    try:
        gguf, tokenizer = open_model(path)
    except (GgufError, ModelError) as error:
        return error.reason
    except TokenizerError:
        return "tokenizer"
    device = open_device("cpu", memory_limit=_MEMORY)
    try:
        model = load_model(gguf, device)
        try_out(model, str(path))
        for token in range(tokenizer.vocab_size):
            tokenizer.token_bytes(token)
        for text in TEXTS:
            try:
                ids = tokenizer.encode(text)
            except TokenizerError:  # a request's own error, as long as the vocabulary has no token for a character
                continue
            tokenizer.decode(ids)
            if not 0 < len(ids) < model.n_ctx:
                continue
            job = model.open(len(ids) + 1, SamplingParams(temperature=1.0, vocab_size=tokenizer.vocab_size), seed=1)
            try:
                for _ in job.prefill(ids):
                    pass
                for _ in job.collect():
                    pass
                if not np.isfinite(job.logits()).all():
                    return "not finite"
            finally:
                job.close()
    except ModelError as error:
        return error.reason
    except OutOfMemory:
        return "memory"
    except ArithmeticError:
        return "not finite"
    finally:
        device.close()
        gguf.close()
    return "served"


def bases(folder: Path) -> list[Path]:
    """Small sound files of every architecture and kind of tokenizer."""
    small = {"width": 64, "heads": 1, "kv_heads": 1, "layers": 1, "feed_forward": 64, "context": 512}
    made = [metronome(folder / "probe.gguf").path]
    dense: tuple[Architecture, ...] = ("llama", "qwen2", "phi3", "gpt2")
    made += [miniatures.write(folder / f"{name}.gguf", name, "F32", **small) for name in dense]
    made.append(miniatures.write(folder / "gpt-oss.gguf", "gpt-oss", "MXFP4", layers=1))
    metadata, tensors = read_back(made[1])
    scored = vocabularies.make("spm").metadata
    count = len(metadata["tokenizer.ggml.tokens"])  # type: ignore[arg-type]  # a list
    spm = {
        key: value[:count] if isinstance(value, list) else value
        for key, value in scored.items()
        if key.startswith("tokenizer.")
    }
    others = {key: value for key, value in metadata.items() if not key.startswith("tokenizer.")}
    made.append(write(folder / "spm.gguf", "llama", {**others, **spm}, tensors))
    return made
