"""Judges of how tokens are drawn where parameters come together, and of what a seed decides."""

from __future__ import annotations

from typing import Any

from m0_conformance.judging import Findings, Recording, Stream, fail, judge, ok, require, streams
from m0_conformance.judging.answers import finished
from m0_conformance.judging.dice import SIGMA, counts_of, deviation, faces_of, odds, shares_of

LEAST_THROWS = 200
CUTS = ("top_k", "top_p")


@judge(
    "M0-W-1032/unscaled-at-one",
    "M0-W-1032/scales",
    "M0-W-1421/top-k-cut",
    "M0-W-1421/top-p-cut",
    "M0-W-1421/temperature-first",
)
def together(recording: Recording) -> Findings:
    """The odds of all parameters one after the other; else the clause of the parameter that did something else."""
    faces = faces_of(recording)
    for stream in streams(recording, "together"):
        counts = counts_of(stream)
        if not faces or not finished(stream) or sum(counts.values()) < LEAST_THROWS:
            continue
        asked = {name: stream.request[name] for name in ("temperature", *CUTS) if name in stream.request}
        expected = odds(faces, **asked)
        off = deviation(counts, expected)
        if off <= SIGMA:
            for clause in _concerned(asked):
                yield ok(stream, f"{sum(counts.values())} tokens, {off:.1f} standard deviations", clause=clause)
            continue
        clause, why = _culprit(stream, faces, asked)
        yield fail(
            stream,
            "wrong-odds-together",
            f"tokens with {', '.join(f'{name} {value}' for name, value in asked.items())} do not fall as they should",
            expected=", ".join(f"{face!r} {share:.3f}" for face, share in expected.items()),
            actual=f"{shares_of(counts)}{why}",
            clause=clause,
        )


def _concerned(asked: dict[str, Any]) -> list[str]:
    clauses = [f"M0-W-1421/{name.replace('_', '-')}-cut" for name in CUTS if name in asked]
    if asked["temperature"] == 1.0:
        return [*clauses, "M0-W-1032/unscaled-at-one"]
    return [*clauses, "M0-W-1032/scales", *(["M0-W-1421/temperature-first"] if "top_p" in asked else [])]


def _culprit(stream: Stream, faces: dict[str, float], asked: dict[str, Any]) -> tuple[str, str]:
    """The clause whose parameter explains the counts when it is left out or applied otherwise, and how it was."""
    counts, temperature = counts_of(stream), asked["temperature"]
    scaling = "M0-W-1032/unscaled-at-one" if temperature == 1.0 else "M0-W-1032/scales"
    guesses = [
        (scaling, {**asked, "temperature": other}, f", as with temperature {other:g}")
        for other in (1.0, 1.0 / temperature)
        if other != temperature
    ]
    for name in CUTS:
        left = {field: value for field, value in asked.items() if field != name}
        if name in asked:
            guesses.append((f"M0-W-1421/{name.replace('_', '-')}-cut", left, f", as without {name}"))
    for clause, fields, why in guesses:
        if deviation(counts, odds(faces, **fields)) <= SIGMA:
            return clause, why
    seen = set(counts)
    cold = set(odds(faces, **{**asked, "temperature": 1.0}))
    if temperature != 1.0 and "top_p" in asked and seen == cold:
        return "M0-W-1421/temperature-first", ", as if the nucleus were cut at temperature 1"
    if "top_k" in asked and len(seen) > asked["top_k"]:
        return "M0-W-1421/top-k-cut", f", {len(seen)} tokens"
    if "top_p" in asked and seen - set(odds(faces, **asked)):
        return "M0-W-1421/top-p-cut", f", {len(seen)} tokens"
    return scaling, ""


def _seeded(recording: Recording) -> dict[int, list[Stream]]:
    found: dict[int, list[Stream]] = {}
    for stream in streams(recording, "seeded"):
        seed = stream.request.get("seed")
        if finished(stream) and isinstance(seed, int):
            found.setdefault(seed, []).append(stream)
    return found


@judge("M0-W-1030/same-seed")
def same_seed_of_every_size(recording: Recording) -> Findings:
    """Each seed's two long streams, other seeds between them."""
    for seed, runs in _seeded(recording).items():
        for run in runs[1:]:
            pairs = zip(runs[0].pieces, run.pieces, strict=False)
            at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(runs[0].pieces), len(run.pieces)))
            yield require(
                run.pieces == runs[0].pieces,
                run,
                "same-seed-differs",
                f"two jobs with seed {seed} differ; the first difference is token {at}",
                expected=repr("".join(runs[0].pieces[max(0, at - 3) : at + 20]))[:160],
                actual=repr("".join(run.pieces[max(0, at - 3) : at + 20]))[:160],
                at=run.tokens[at] if at < len(run.tokens) else None,
            )


@judge("M0-W-1030/every-bit")
def every_bit(recording: Recording) -> Findings:
    """No two seeds share a long text of drawn tokens. Where every seed does, M0-W-1030/different-seeds says so."""
    seeds = _seeded(recording)
    texts: dict[tuple[str, ...], list[int]] = {}
    for seed, runs in seeds.items():
        if any(run.pieces != runs[0].pieces for run in runs):
            return  # equal seeds differ: M0-W-1030/same-seed has spoken
        texts.setdefault(tuple(runs[0].pieces), []).append(seed)
    if len(texts) < 2:
        return
    for pieces, shared in texts.items():
        yield require(
            len(shared) == 1,
            seeds[shared[-1]][0],
            "seeds-alike",
            f"seeds {' and '.join(map(str, shared))} yield the same text",
            expected="another text for each seed",
            actual=repr("".join(pieces))[:120],
            seen=f"{len(pieces)} tokens",
        )
