"""Checks on a model that people use, given with --real-model: clauses of other areas, on weights that were trained."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from m0_models import altered
from m0_models.real import QUESTION, known
from m0_models.scan import Scan

from m0_conformance.run.situation import Situation, needs, requirement

if TYPE_CHECKING:
    from m0_conformance.recording.transcript import Json

TOKENS: Final = 50
"""M0-W-1800's and M0-W-1826's own."""
EXIT_S: Final = 60.0
FORMS: Final = {
    "llama": "M0-W-1212/llama",
    "gpt2": "M0-W-1212/gpt2",
    "qwen2": "M0-W-1230/qwen2-form",
    "phi3": "M0-W-1230/phi3-form",
    "gpt-oss": "M0-W-1230/gpt-oss-form",
}
"""The clause that says that a file of this architecture loads and serves."""
FORMATS: Final = {"Q4_0": 2, "Q4_K_M": 15, "MXFP4": 38}
"""general.file_type of the formats that M0 names."""
WORDS: Final = ("river", "candle", "winter", "copper", "garden", "thunder", "lantern", "willow")


def question(situation: Situation, scan: Scan) -> tuple[str, str, str]:
    """A request for a haiku with a word drawn here, so that no answer can be prepared; the word; the nonce in it."""
    choice = random.Random(situation.seed)  # noqa: S311 - a word of a prompt
    word, nonce = choice.choice(WORDS), f"{choice.getrandbits(32):08x}"
    asked = f"Request {nonce}. Write a haiku in three lines about {word}. Use the word {word}."
    if "<|im_start|>" in str(scan.metadata.get("tokenizer.chat_template", "")):
        asked = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    return asked, word, nonce


@requirement("M0-W-1800/completes", "M0-W-1800/repeats", "M0-SYS-2.3.1/greedy-repeat", "M0-W-1826/identical-tokens")
@needs("command", "real-model")
async def test_haiku(situation: Situation) -> None:
    """The haiku job twice and the greedy one three times; word, nonce and lines are noted for who reads the report."""
    asked, word, nonce = question(situation, Scan(situation.real_model))
    worker = await situation.launch("real model", model=str(situation.real_model))
    if worker.running_process.launch.ready_at is None:
        return
    texts = []
    for _ in range(2):
        stream = await situation.execute("haiku", on=worker, prompt=asked, max_tokens=TOKENS, temperature=0.7, seed=42)
        texts.append(stream.text)
    for number in range(3):
        await situation.execute("greedy 42", on=worker, prompt=asked, temperature=0.0, seed=42, max_tokens=TOKENS)
        if number == 1:
            await situation.execute("between", on=worker, prompt="Hello", temperature=1.0, max_tokens=5)
    lines = [sum(1 for line in text.splitlines() if line.strip()) for text in texts]
    poems: list[Json] = [
        {"text": text, "word": word, "has_word": word in text.lower(), "echoes_nonce": nonce in text, "lines": count}
        for text, count in zip(texts, lines, strict=True)
    ]
    situation.fact("poems", poems)


@requirement("M0-W-1820/whole-life")
@needs("command", "real-model")
async def test_whole_life(situation: Situation) -> None:
    """Start, health, the same job twice, SIGTERM."""
    asked, _, _ = question(situation, Scan(situation.real_model))
    worker = await situation.launch("life", model=str(situation.real_model))
    if worker.running_process.launch.ready_at is None:
        return
    await situation.get("health", "/health", on=worker)
    for label in ("first", "again"):
        await situation.execute(label, on=worker, prompt=asked, max_tokens=12, temperature=0.0, seed=1)
    await worker.signal("SIGTERM")
    await worker.exited(EXIT_S * situation.scale)


@requirement(*FORMS.values(), "M0-W-1201/quant-kind-stored", "M0-W-1211/context-length", "M0-W-1214/tied-output")
@needs("command", "real-model")
async def test_form(situation: Situation) -> None:
    """It loads, serves, tells its format, and says something else when one of its tensors is zeroed.

    A file of the register must also give the answer that llama.cpp gives without a doubt.
    """
    scan = Scan(situation.real_model)
    arch = scan.architecture
    clauses = [FORMS[arch]] if arch in FORMS else []
    clauses += [] if "output.weight" in scan.tensors else ["M0-W-1214/tied-output"]
    kind = next((name for name, code in FORMATS.items() if scan.metadata.get("general.file_type") == code), None)
    situation.concerns(*clauses, "M0-W-1211/context-length", *(["M0-W-1201/quant-kind-stored"] if kind else []))
    asked, _, _ = question(situation, scan)
    context = scan.metadata.get(f"{arch}.context_length")
    registered = await asyncio.to_thread(known, situation.real_model)
    plain: dict[str, Json] = {"clauses": [*clauses], "text": None, "format": None, "context": None}
    models: dict[str, Json] = {
        "real model": {**plain, "format": kind, "context": context},
        "one tensor zeroed": {**plain, "unlike": "real model"},
    }
    with tempfile.TemporaryDirectory(prefix="m0-real-") as folder:
        changed = Path(folder) / "zeroed.gguf"
        await asyncio.to_thread(altered.zeroed, situation.real_model, changed)
        for label, path in (("real model", situation.real_model), ("one tensor zeroed", changed)):
            worker = await situation.launch(label, model=str(path))
            if worker.running_process.launch.ready_at is not None:
                if label == "real model" and registered is not None and registered.says:
                    models["golden"] = {**plain, "text": registered.says}
                    await situation.execute(
                        "job golden", on=worker, prompt=QUESTION, max_tokens=24, temperature=0.0, seed=1
                    )
                await situation.execute(f"job {label}", on=worker, prompt=asked, max_tokens=24, temperature=0.0, seed=1)
                await situation.get(f"health {label}", "/health", on=worker)
            await worker.running_process.stop()
    situation.fact("models", models)


@requirement("M0-W-1214/missing-tensor")
@needs("command", "real-model")
async def test_missing_tensor(situation: Situation) -> None:
    """The same file without one of its tensors must be refused at start, and the tensor named."""
    with tempfile.TemporaryDirectory(prefix="m0-real-") as folder:
        path = Path(folder) / "missing.gguf"
        name = await asyncio.to_thread(altered.renamed, situation.real_model, path)
        worker = await situation.launch("missing", model=str(path), wait="no")
        await worker.running_process.ready(EXIT_S * situation.scale)
        await worker.exited(1.0)
    wrong = f"{name} is missing from a real model"
    words = [name.split(".")[2], "tensor"]
    situation.fact("broken files", {"missing": {"clause": "M0-W-1214/missing-tensor", "words": words, "wrong": wrong}})
    situation.fact("given", {"missing": situation.given(str(path))})
