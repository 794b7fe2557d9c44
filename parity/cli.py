"""The command line: m0-parity run | record | compare | ladder | selftest | overhead | report | tokenizers.

Exit codes: 0 equal within every bound, 1 a difference, 2 cannot be compared or wrong use.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from parity import files, overhead, report
from parity.capture import WorkerSettings, record_llamacpp, record_worker, sha256, workload
from parity.compare import Comparison, IncomparableError, compare
from parity.divergence import T2_BOUND, free_bound, locate
from parity.ladder import Plan, climb
from parity.llamacpp import ReferenceUnavailableError, Settings, provenance
from parity.perturb import PERTURBATIONS
from parity.rungs import checkpoints, perturbations
from parity.rungs.base import Bench, Row
from parity.selftest import selftest
from parity.tokenizers import cli as tokenizers
from parity.twin import write_twin
from parity.validate import suspicions
from worker.errors import WorkerError
from worker.gguf import GgufError, GgufFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from parity.recording import Recording

_RUNGS = ("T0", "T1", "T2", "T3", "T4", "T5", "T6", "T7", "selftest")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="m0-parity", description="Prove the worker's numbers against llama.cpp.")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="the worker against llama.cpp, live, on one model or the whole zoo")
    run.add_argument("model", type=Path, nargs="?", help="a GGUF file (default: the zoo of miniatures)")
    run.add_argument("--plant", choices=PERTURBATIONS, metavar="NAME", help="give the worker this perturbed model")
    run.add_argument("--kv-cache-type", choices=("f32", "f16"), default="f32")
    _work(run)
    _output(run)

    record = commands.add_parser("record", help="record one engine's checkpoints into a file")
    record.add_argument("model", type=Path)
    record.add_argument("-o", "--output", type=Path, required=True, help="JSON lines; vectors go beside it")
    record.add_argument("--engine", choices=("worker", "llama.cpp"), default="worker")
    record.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the worker")
    record.add_argument("--values", type=int, default=10, help="leading values in a line (default: %(default)s)")
    record.add_argument("--no-vectors", action="store_true", help="no side file with whole vectors")
    record.add_argument("--kv-cache-type", choices=("f32", "f16"), default="f32")
    _work(record)

    two = commands.add_parser("compare", help="compare two recordings of any engines; the first is the reference")
    two.add_argument("reference", type=Path)
    two.add_argument("candidate", type=Path)
    two.add_argument("--bound", type=float, default=T2_BOUND, help="NMSE a checkpoint may have (default: %(default)s)")
    two.add_argument("--trust-reference", action="store_true", help="go on although the reference looks suspect")
    _output(two)

    ladder = commands.add_parser("ladder", help="climb the tolerance ladder with the zoo of models")
    ladder.add_argument("--only", type=lambda s: s.split(","), default=[], help=f"of {','.join(_RUNGS)}")
    ladder.add_argument("--strings", type=int, default=2000, help="texts per tokenizer (default: %(default)s)")
    ladder.add_argument("--vocab-dir", type=Path, help="folder with llama.cpp's ggml-vocab-*.gguf, .inp and .out")
    _output(ladder)

    own = commands.add_parser("selftest", help="find and place the perturbations of perturbed models")
    own.add_argument("name", nargs="*", help="only these")
    _output(own)

    cost = commands.add_parser("overhead", help="what recording the logits costs a decode step, in pairs of steps")
    cost.add_argument(
        "model", type=Path, nargs="?", help="a GGUF file (default: two small models of real vocabularies)"
    )
    cost.add_argument("--seconds", type=float, default=25.0, help="for each model (default: %(default)s)")
    cost.add_argument("--bound", type=float, default=overhead.BOUND, help="what it may cost (default: %(default)s)")

    drawn = commands.add_parser("report", help="draw a saved run again, as HTML or PNG")
    drawn.add_argument("results", type=Path, help="a parity.json")
    drawn.add_argument("--html", type=Path)
    drawn.add_argument("--png", type=Path)
    drawn.add_argument("--label", help="the row whose heat map the PNG shows")

    tokenizers.add_commands(commands.add_parser("tokenizers", help="token ids against llama.cpp"))
    return parser


def _work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--length", type=int, default=300, help="prompt tokens (default: %(default)s)")
    parser.add_argument("--decode", type=int, default=8, help="decode steps after it (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the token ids (default: %(default)s)")


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--report-dir", type=Path, default=Path("reports/parity"), help="(default: %(default)s)")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        return _COMMANDS[options.command](options)
    except (IncomparableError, ReferenceUnavailableError, GgufError, WorkerError, OSError) as error:
        _say(f"cannot compare: {error}", sys.stderr)
        return 2


def _say(text: str, stream: TextIO | None = None) -> None:
    out = stream or sys.stdout
    out.write(f"{text}\n")
    out.flush()


def _reference() -> dict[str, object]:
    """What llama.cpp is here; T4 and stored recordings need none."""
    try:
        return dict(provenance())
    except ReferenceUnavailableError as error:
        return {"engine": f"none ({error})"}


def _finish(options: argparse.Namespace, rows: Iterable[Row], reference: dict[str, object] | None = None) -> int:
    """Print rows as they come, write report and page, and return the exit code."""
    start, kept = time.perf_counter(), []
    for row in rows:
        _say(report.line(row))
        kept.append(row)
    seconds = time.perf_counter() - start
    _say(report.summary(kept, seconds))
    found = report.document(options.command, kept, reference or _reference(), seconds)
    saved = report.save(found, options.report_dir / "parity.json")
    html = options.report_dir / "parity.html"
    html.write_text(report.page(found), encoding="utf-8")
    _say(f"report: {html} (data: {saved.name})")
    if any(not row.passed for row in kept if row.ran):
        return 1
    return 0 if any(row.ran for row in kept) else 2


def _run(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        if options.plant:
            return _finish(options, _planted([options.plant], Path(folder)))
        settings = WorkerSettings(kv=options.kv_cache_type, half_attention=options.kv_cache_type == "f16")
        if options.model is None:
            bench = Bench(Path(folder), options.length, options.decode)
            return _finish(options, (checkpoints.measure(bench, recipe, settings) for recipe in checkpoints.recipes()))
        return _finish(options, [_one_model(options, settings, Path(folder))])


def _one_model(options: argparse.Namespace, settings: WorkerSettings, folder: Path) -> Row:
    path: Path = options.model
    gguf = GgufFile.open(path)
    vocabulary = gguf.tensors["token_embd.weight"].shape[0] if "token_embd.weight" in gguf.tensors else 256
    quantized = any(tensor.type.name != "F32" for tensor in gguf.tensors.values())
    architecture = gguf.architecture
    gguf.close()
    work = workload(vocabulary, length=options.length, decode=options.decode, seed=options.seed)
    oracle = write_twin(path, folder / "twin.gguf") if quantized else path
    context = 256 * -(-(options.length + options.decode + 1) // 256)
    reference = record_llamacpp(oracle, work, Settings(kv=settings.kv), context=context)
    reference.provenance |= {"twin_of": sha256(path)}
    if doubts := suspicions(reference):
        raise IncomparableError(f"reference suspect: {doubts[0]}")
    settings = WorkerSettings(kv=settings.kv, half_attention=settings.half_attention, context=context)
    free = compare(reference, record_worker(path, work, settings))
    bound = free_bound(architecture) if settings.kv == "f32" else checkpoints.HALF_BOUND
    row = Row("run", path.name, free.worst().nmse, bound, f"{len(free.cells)} cells", free)
    if not row.passed:
        row.divergence = locate(path, work, reference, free, settings, bound=bound)
        row.note = row.divergence.sentence() if row.divergence else row.note
    return row


def _planted(names: Sequence[str], folder: Path) -> Iterable[Row]:
    """The planted divergence as a row of its own, which of course fails."""
    for outcome in selftest([PERTURBATIONS[name] for name in names], folder):
        p, found = outcome.perturbation, outcome.divergence
        worst = outcome.comparison.worst().nmse
        note = found.sentence() if found else "nothing found"
        yield Row("run", f"{p.architecture} with {p.name}", worst, free_bound(p.architecture), note,
                  outcome.comparison, found)  # fmt: skip


def _record(options: argparse.Namespace) -> int:
    gguf = GgufFile.open(options.model)
    vocabulary = gguf.tensors["token_embd.weight"].shape[0]
    gguf.close()
    work = workload(vocabulary, length=options.length, decode=options.decode, seed=options.seed)
    context = 256 * -(-(options.length + options.decode + 1) // 256)
    recording: Recording
    if options.engine == "worker":
        settings = WorkerSettings(kv=options.kv_cache_type, device=options.device, context=context)
        recording = record_worker(options.model, work, settings)
    else:
        recording = record_llamacpp(options.model, work, Settings(kv=options.kv_cache_type), context=context)
    path = files.write(recording, options.output, values=options.values, vectors=not options.no_vectors)
    _say(f"{sum(len(r.rows) for r in recording)} checkpoints of {len(recording.requests)} requests in {path}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    reference, candidate = files.read(options.reference), files.read(options.candidate)
    doubts = suspicions(reference)
    if doubts and not options.trust_reference:
        raise IncomparableError("reference suspect: " + "; ".join(doubts[:3]))
    result = compare(reference, candidate)
    first = result.first_step(lambda _: options.bound)
    note = f"{len(result.cells)} cells" + _partial(reference) + _told(result, first, options.bound)
    row = Row("compare", options.candidate.name, result.worst().nmse, options.bound, note, result)
    return _finish(options, [row], {"engine": str(reference.provenance.get("engine")), "package": ""})


def _told(result: Comparison, first: object, bound: float) -> str:
    told = f"; positions seem shifted by {result.shift:+d}" if result.shift else ""
    cell = next((c for c in result.cells if c is first), None)
    if cell is None:
        return told
    layer, name = cell.place
    where = name if layer < 0 else f"{name} of layer {layer}"
    return f"{told}; first step at {where}, request {cell.request!r}, position {cell.first_position(bound)}"


def _partial(recording: Recording) -> str:
    short = any(rows.partial for request in recording for rows in request.rows.values())
    return ", leading values only" if short else ""


def _ladder(options: argparse.Namespace) -> int:
    unknown = set(options.only) - set(_RUNGS)
    if unknown:
        raise IncomparableError(f"no rung {', '.join(sorted(unknown))}: there are {', '.join(_RUNGS)}")
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        plan = Plan(options.strings, options.vocab_dir, os.cpu_count() or 1)
        return _finish(options, climb(Bench(Path(folder)), plan, options.only))


def _selftest(options: argparse.Namespace) -> int:
    unknown = set(options.name) - PERTURBATIONS.keys()
    if unknown:
        raise IncomparableError(f"no perturbation {', '.join(sorted(unknown))}")
    chosen = [PERTURBATIONS[name] for name in options.name] or list(PERTURBATIONS.values())
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        return _finish(options, perturbations.rung(chosen, Path(folder)))


def _overhead(options: argparse.Namespace) -> int:
    """0: recording costs no more than the bound; 1: it costs more; 2: the machine is too busy to tell."""
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="m0-parity-") as folder:
        for name, shape in overhead.MODELS.items() if options.model is None else [(options.model.name, None)]:
            _say(name)
            path = options.model if shape is None else overhead.write_model(shape, Path(folder) / "model.gguf")
            found = overhead.measure(path, seconds=options.seconds, progress=lambda text: _say(f"  so far {text}"))
            verdict = found.verdict(options.bound)
            verdicts.append(verdict)
            word = {True: "within", False: "over", None: "too busy to tell whether within"}[verdict]
            _say(f"  recording adds {found}: {word} {options.bound:.2%}\n  {found.apart()}")
    return 1 if False in verdicts else 2 if None in verdicts else 0


def _report(options: argparse.Namespace) -> int:
    from parity.report.heatmap import figure  # noqa: PLC0415  # matplotlib only where a picture is asked for

    found = report.load(options.results)
    html = options.html or (None if options.png else options.results.with_suffix(".html"))
    if html is not None:
        html.write_text(report.page(found), encoding="utf-8")
        _say(f"wrote {html}")
    if options.png is not None:
        try:
            figure(found, options.png, options.label)
        except ValueError as error:
            raise IncomparableError(str(error)) from error
        _say(f"wrote {options.png}")
    return 0


_COMMANDS = {
    "run": _run,
    "record": _record,
    "compare": _compare,
    "ladder": _ladder,
    "selftest": _selftest,
    "overhead": _overhead,
    "report": _report,
    "tokenizers": tokenizers.run,
}
