"""Committed ground truth: what llama.cpp computed for miniatures, small enough for a repository.

A golden file holds the logits of the last position in full and, of every checkpoint, figures and a few seeded random
projections by position: the NMSE of the projections estimates that of the values. So the worker's numbers are checked
where no llama.cpp is installed. `python -m m0_parity.golden FOLDER` records the files anew.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from m0_models.miniatures import Recipe

from m0_parity import llamacpp
from m0_parity.capture import Work, record_llamacpp, record_worker, sha256, workload
from m0_parity.compare import IncomparableError
from m0_parity.metrics import nmse
from m0_parity.names import LOGITS, Place
from m0_parity.twin import write_twin
from m0_parity.validate import suspicions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from m0_models.shapes import Architecture

    from m0_parity.recording import Recording

    Floats = npt.NDArray[np.float32]

SCHEMA: Final = 1
PROJECTIONS: Final = 4
_SEED: Final = 20_081
_QUANTS: Final[dict[Architecture, str]] = {
    "llama": "Q4_K_M",
    "qwen2": "Q4_0",
    "phi3": "Q8_0",
    "gpt2": "Q5_0",
    "gpt-oss": "MXFP4",
}


def recipes() -> Iterator[Recipe]:
    """The files that have goldens: each architecture in F32 and in one quantized recipe."""
    for architecture, quantized in _QUANTS.items():
        for quant in ("F32", quantized):
            yield Recipe(f"{architecture}-{quant}".lower(), architecture, quant)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is kept of one checkpoint of one request."""

    shape: tuple[int, int]
    """Positions, features."""
    mean: float
    l2: float
    least: float
    most: float
    projected: Floats
    """(positions, PROJECTIONS)."""


@dataclass(slots=True)
class Golden:
    """One golden file."""

    recipe: Recipe
    model_sha256: str
    reference: dict[str, Any]
    work: list[Work]
    checkpoints: dict[tuple[str, Place], Checkpoint] = field(default_factory=dict)
    logits: dict[str, Floats] = field(default_factory=dict)
    """The last position's, by request."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How far the worker is from a golden at one place."""

    request: str
    place: Place
    nmse: float
    """Of the projections, or of the last position's logits in full."""
    figures: float
    """Largest relative difference of mean (over the root mean square), least, most and L2."""


def summarize(values: npt.NDArray[Any]) -> Checkpoint:
    """Figures and projections of values (positions, features); all checkpoints of a width share one matrix."""
    wide = values.astype(np.float64)
    matrix = np.random.default_rng([_SEED, values.shape[1]]).standard_normal((values.shape[1], PROJECTIONS))
    return Checkpoint(
        shape=(int(values.shape[0]), int(values.shape[1])),
        mean=float(wide.mean()),
        l2=float(np.sqrt(np.square(wide).sum())),
        least=float(wide.min()),
        most=float(wide.max()),
        projected=(wide @ matrix).astype(np.float32),
    )


def record(recipe: Recipe, folder: Path) -> Golden:
    """Run llama.cpp on the recipe's float32 twin (on the file itself where it is F32).

    Raises:
        ReferenceUnavailableError: no llama.cpp here.
        IncomparableError: what llama.cpp computed looks broken.
    """
    path = recipe.write(folder / f"{recipe.name}.gguf")
    oracle = path if recipe.quant == "F32" else write_twin(path, folder / f"{recipe.name}.twin.gguf")
    work = workload(320, length=24, decode=4, seed=_SEED)
    recording = record_llamacpp(oracle, work)
    if doubts := suspicions(recording):
        raise IncomparableError(f"reference suspect: {doubts[0]}")
    origin = {**llamacpp.provenance(), "settings": recording.provenance["settings"]}
    if oracle != path:
        origin["float32_twin_sha256"] = sha256(oracle)
    golden = Golden(recipe, sha256(path), origin, work)
    for request in recording:
        golden.logits[request.id] = request.logits().values[-1]
        for place in request.places():
            if recipe.architecture == "gpt2" and place[1] == "ffn_up":
                continue  # the worker adds its bias at once and shows the sum, ffn_up_b
            golden.checkpoints[request.id, place] = summarize(request.rows[place].values)
    return golden


def run_worker(golden: Golden, path: Path) -> Recording:
    """The worker's own numbers for the golden's work.

    Raises:
        IncomparableError: ``path`` is not the file that the golden was recorded from.
    """
    seen = sha256(path)
    if seen != golden.model_sha256:
        raise IncomparableError(
            f"{golden.recipe.name}: the miniature's bytes have changed (SHA-256 {seen[:12]}, the golden's is "
            f"{golden.model_sha256[:12]}); record the goldens anew with python -m m0_parity.golden"
        )
    return record_worker(path, golden.work)


def gaps(golden: Golden, recording: Recording) -> list[Gap]:
    """Every checkpoint of the golden beside the recording's.

    Raises:
        IncomparableError: the recording lacks a checkpoint, or has another shape there.
    """
    found = []
    for (name, place), due in golden.checkpoints.items():
        rows = recording.requests[name].rows
        if place not in rows:
            raise IncomparableError(f"request {name!r}: nothing was recorded as {place[1]} of layer {place[0]}")
        seen = summarize(rows[place].values)
        if seen.shape != due.shape:
            raise IncomparableError(f"{golden.recipe.name}, {place}: shape {seen.shape}, the golden's is {due.shape}")
        rms = due.l2 / float(np.sqrt(due.shape[0] * due.shape[1])) or 1.0
        figures = max(
            abs(seen.mean - due.mean) / rms,
            abs(seen.least - due.least) / max(rms, abs(due.least)),  # an extreme is rounded by its own size
            abs(seen.most - due.most) / max(rms, abs(due.most)),
            abs(seen.l2 - due.l2) / (due.l2 or 1.0),
        )
        found.append(Gap(name, place, nmse(due.projected, seen.projected), figures))
    for name, logits in golden.logits.items():
        last = recording.requests[name].logits().values[-1:]
        found.append(Gap(name, (-1, LOGITS), nmse(logits[None], last), 0.0))
    return found


# files ---------------------------------------------------------------------------------------------------------------


def write(golden: Golden, folder: Path) -> Path:
    """Write ``<name>.jsonl``: a header, the requests with their token ids, the checkpoints."""
    recipe = golden.recipe
    lines: list[dict[str, Any]] = [
        {
            "schema": SCHEMA,
            "name": recipe.name,
            "architecture": recipe.architecture,
            "quant": recipe.quant,
            "changes": recipe.changes,
            "model_sha256": golden.model_sha256,
            "projection_seed": _SEED,
            "reference": golden.reference,
        }
    ]
    for item in golden.work:
        logits = _encode(golden.logits[item.id])
        lines.append({"request": item.id, "prompt": item.prompt, "decode": item.decode, "logits": logits})
    for (name, (layer, checkpoint)), c in golden.checkpoints.items():
        figures = {"mean": c.mean, "l2": c.l2, "min": c.least, "max": c.most}
        lines.append(
            {"of": name, "layer": layer, "checkpoint": checkpoint, "shape": c.shape}
            | {key: float(f"{value:.9g}") for key, value in figures.items()}
            | {"projected": _encode(c.projected)}
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{recipe.name}.jsonl"
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), encoding="ascii")
    return path


def read(path: Path) -> Golden:
    """Read a golden file.

    Raises:
        IncomparableError: another schema, or projections of another seed.
    """
    head, *rest = (json.loads(line) for line in path.read_text(encoding="ascii").splitlines())
    if (head["schema"], head["projection_seed"]) != (SCHEMA, _SEED):
        raise IncomparableError(f"{path.name}: schema {head['schema']}, seed {head['projection_seed']} are not ours")
    recipe = Recipe(head["name"], head["architecture"], head["quant"], head["changes"])
    golden = Golden(recipe, head["model_sha256"], head["reference"], [])
    for line in rest:
        if "request" in line:
            golden.work.append(Work(line["request"], tuple(line["prompt"]), tuple(line["decode"])))
            golden.logits[line["request"]] = _decode(line["logits"])
        else:
            rows, features = line["shape"]
            projected = _decode(line["projected"]).reshape(rows, PROJECTIONS)
            figures = (line["mean"], line["l2"], line["min"], line["max"])
            kept = Checkpoint((rows, features), *figures, projected)
            golden.checkpoints[line["of"], (line["layer"], line["checkpoint"])] = kept
    return golden


def _encode(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _decode(text: str) -> Floats:
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)


def main(argv: Sequence[str] | None = None) -> int:
    """Record all goldens into a folder."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m m0_parity.golden FOLDER\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="m0-golden-") as scratch:
        for recipe in recipes():
            path = write(record(recipe, Path(scratch)), Path(arguments[0]))
            sys.stdout.write(f"{path} ({path.stat().st_size} bytes)\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
