"""What the commands of m0-parity do; each returns the exit code."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from m0_parity import files, overhead, report
from m0_parity.capture import Work, WorkerSettings, record_llamacpp, record_worker
from m0_parity.compare import Comparison, IncomparableError, compare
from m0_parity.divergence import free_bound
from m0_parity.feed import context_of, look, work_of
from m0_parity.ladder import Plan, climb
from m0_parity.layerwise.reference import record_by_layer
from m0_parity.live import one_model
from m0_parity.llamacpp import ReferenceUnavailableError, Settings, provenance
from m0_parity.perturb import PERTURBATIONS
from m0_parity.rungs import checkpoints, perturbations
from m0_parity.rungs.base import Bench, Row
from m0_parity.rungs.quantized import BOUND
from m0_parity.selftest import selftest
from m0_parity.validate import suspicions

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from m0_parity.feed import ModelFacts
    from m0_parity.recording import Recording

RUNGS = ("T0", "T1", "T2", "T3", "T4", "T5", "T6", "T7", "selftest")


def say(text: str, stream: TextIO | None = None) -> None:
    """A line of the command's output, at once."""
    out = stream or sys.stdout
    out.write(f"{text}\n")
    out.flush()


def _reference() -> dict[str, object]:
    """What llama.cpp is here; T4 and stored recordings need none."""
    try:
        return dict(provenance())
    except ReferenceUnavailableError as error:
        return {"engine": f"none ({error})", "package": ""}


def _finish(options: argparse.Namespace, rows: Iterable[Row], reference: dict[str, object] | None = None) -> int:
    """Print rows as they come, write report and page, and return the exit code."""
    kept = []
    for row in rows:
        found = report.finding(row) if row.rung == "run" else ""
        say(report.line(replace(row, note="") if found else row))
        if found:
            say(found)
        kept.append(row)
    seconds = time.perf_counter() - options.started
    say(report.summary(kept, seconds))
    results = report.document(options.command, kept, reference or _reference(), seconds)
    saved = report.save(results, options.report_dir / "parity.json")
    html = options.report_dir / "parity.html"
    html.write_text(report.page(results), encoding="utf-8")
    say(f"report: {html} (data: {saved.name})")
    if any(not row.passed for row in kept if row.ran):
        return 1
    if any(row.missing for row in kept):
        return 3
    return 0 if any(row.ran for row in kept) else 2


def run(options: argparse.Namespace) -> int:
    """The worker beside llama.cpp, on one model, the zoo or a perturbed model."""
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        if options.plant:
            code = _finish(options, _planted([options.plant], Path(folder)))
            say(f"exit code {code}: {'the difference planted here was found' if code == 1 else 'nothing was found'}")
            return code
        settings = WorkerSettings(kv=options.kv_cache_type, half_attention=options.kv_cache_type == "f16")
        if options.model is None:
            bench = Bench(Path(folder), options.length, options.decode)
            return _finish(options, (checkpoints.measure(bench, recipe, settings) for recipe in checkpoints.recipes()))
        return _finish(options, (one_model(options, settings, Path(folder), say) for _ in range(1)))


def _ask_llamacpp(
    path: Path, model: ModelFacts, work: Sequence[Work], settings: Settings, folder: Path, *, native: bool = False
) -> Recording:
    """llama.cpp on the float32 twin of a quantized file: the same weights, without its rounding of activations."""
    context = context_of(work)
    if model.quantized and not native:
        return record_by_layer(path, work, settings, context=context, scratch=folder)
    recording = record_llamacpp(path, work, settings, context=context)
    recording.provenance["settings"] |= {"weights": "quantized" if model.quantized else "float32"}
    return recording


def _planted(names: Sequence[str], folder: Path) -> Iterable[Row]:
    """The planted divergence as a row of its own, which of course fails."""
    for outcome in selftest([PERTURBATIONS[name] for name in names], folder):
        p, found = outcome.perturbation, outcome.divergence
        worst = outcome.comparison.worst().nmse
        note = found.sentence() if found else "nothing found"
        yield Row("run", f"{p.architecture} with {p.name}", worst, free_bound(p.architecture), note,
                  outcome.comparison, found)  # fmt: skip


def record(options: argparse.Namespace) -> int:
    """One engine's checkpoints into a file."""
    model = look(options.model)
    work = work_of(options, options.model, model)
    recording: Recording
    if options.engine == "worker":
        settings = WorkerSettings(kv=options.kv_cache_type, device=options.device, context=context_of(work))
        recording = record_worker(options.model, work, settings)
    else:
        with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
            kv = Settings(kv=options.kv_cache_type)
            recording = _ask_llamacpp(options.model, model, work, kv, Path(folder), native=options.native)
    path = files.write(recording, options.output, values=options.values, vectors=not options.no_vectors)
    of = "its float32 twin" if "twin_of" in recording.provenance else options.model.name
    say(
        f"{recording.provenance['engine']} on {of}: {sum(len(r.rows) for r in recording)} checkpoints of "
        f"{len(recording.requests)} requests, {sum(len(r.tokens) for r in recording)} tokens, in {path}"
    )
    return 0


def compare_recordings(options: argparse.Namespace) -> int:
    """Two recordings, whoever made them."""
    reference, candidate = files.read(options.reference), files.read(options.candidate)
    doubts = suspicions(reference)
    if doubts and not options.trust_reference:
        raise IncomparableError("reference suspect: " + "; ".join(doubts[:3]) + "; --trust-reference goes on")
    result = compare(reference, candidate)
    first = result.first_step(lambda _: options.bound)
    note = _covered(result) + _partial(reference, candidate) + _told(result, first, options.bound)
    row = Row("compare", options.candidate.name, *result.judged(options.bound), note, result)
    row.missing = [] if options.common else result.missing()
    code = _finish(options, [row], {"engine": str(reference.provenance.get("engine")), "package": ""})
    if code and (hint := _hint(row.measured, reference)):
        say(hint)
    return code


def _hint(measured: float, reference: Recording) -> str:
    """What makes differences of this size without anybody's mistake."""
    half = checkpoints.HALF_BOUND
    if measured <= half:
        return (
            f"up to {half:.0e} is what an FP16 cache of keys and values makes: record both sides with "
            f"--kv-cache-type f32 (the worker has this flag too), or give --bound {half:.0e}"
        )
    if measured <= BOUND and reference.provenance.get("settings", {}).get("weights") == "quantized":
        return (
            f"up to {BOUND:.0e} is what llama.cpp's 8-bit activations make on a quantized file: record it without "
            f"--native, or give --bound {BOUND:.0e}"
        )
    return ""


def _covered(result: Comparison) -> str:
    """How much was compared, and what one side alone has."""
    note = f"{len(result.cells)} checkpoints of {len(result.tokens)} requests"
    return "; ".join([note, *result.missing()])


def _told(result: Comparison, first: object, bound: float) -> str:
    told = f"; positions seem shifted by {result.shift:+d}" if result.shift else ""
    cell = next((c for c in result.cells if c is first), None)
    if cell is None:
        return told
    layer, name = cell.place
    where = name if layer < 0 else f"{name} of layer {layer}"
    return f"{told}; first step at {where}, request {cell.request!r}, position {cell.first_position(bound)}"


def _partial(*recordings: Recording) -> str:
    short = any(rows.partial for recording in recordings for request in recording for rows in request.rows.values())
    return ", leading values only" if short else ""


def ladder(options: argparse.Namespace) -> int:
    """The tolerance ladder."""
    unknown = set(options.only) - set(RUNGS)
    if unknown:
        raise IncomparableError(f"no rung {', '.join(sorted(unknown))}: there are {', '.join(RUNGS)}")
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        plan = Plan(options.strings, options.vocab_dir, os.cpu_count() or 1)
        return _finish(options, climb(Bench(Path(folder)), plan, options.only))


def perturbed(options: argparse.Namespace) -> int:
    """The toolkit's own proof."""
    unknown = set(options.name) - PERTURBATIONS.keys()
    if unknown:
        raise IncomparableError(f"no perturbation {', '.join(sorted(unknown))}")
    chosen = [PERTURBATIONS[name] for name in options.name] or list(PERTURBATIONS.values())
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        return _finish(options, perturbations.rung(chosen, Path(folder)))


def recording_cost(options: argparse.Namespace) -> int:
    """0: recording costs no more than the bound; 1: it costs more; 2: the machine is too busy to tell."""
    verdicts = []
    models = dict(overhead.MODELS) if options.model is None else {options.model.name: None}
    end = time.perf_counter() + options.seconds
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        for number, (name, shape) in enumerate(models.items()):
            say(name)
            path = options.model if shape is None else overhead.write_model(shape, Path(folder) / "model.gguf")
            share = (end - time.perf_counter()) / (len(models) - number)
            found = overhead.measure(
                path, seconds=share, bound=options.bound, progress=lambda text: say(f"  so far {text}")
            )
            verdict = found.verdict(options.bound)
            verdicts.append(verdict)
            word = {True: "within", False: "over", None: "too busy to tell whether within"}[verdict]
            say(f"  recording adds {found}: {word} {options.bound:.2%}\n  {found.apart()}")
    return 1 if False in verdicts else 2 if None in verdicts else 0


def draw(options: argparse.Namespace) -> int:
    """A saved run as a page or a picture."""
    from m0_parity.report.heatmap import figure  # noqa: PLC0415  # matplotlib only where a picture is asked for

    found = report.load(options.results)
    html = options.html or (None if options.png else options.results.with_suffix(".html"))
    if html is not None:
        html.write_text(report.page(found), encoding="utf-8")
        say(f"wrote {html}")
    if options.png is not None:
        try:
            figure(found, options.png, options.label)
        except ValueError as error:
            raise IncomparableError(str(error)) from error
        say(f"wrote {options.png}")
    return 0
