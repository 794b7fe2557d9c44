"""Judges of seed, temperature, top-k, top-p, min-p and penalty, seen in the odds of known dice."""

from __future__ import annotations

from m0_conformance.judging import Findings, Recording, Stream, describe, fail, judge, ok, require, streams
from m0_conformance.judging.dice import SIGMA, counts_of, deviation, faces_of, odds, shares_of

LEAST_THROWS = 200


def _ended(recording: Recording, label: str) -> list[Stream]:
    """Streams of this label that came to an end event; broken ones are other clauses' business."""
    found = streams(recording, label)
    return [stream for stream in found if stream.terminal is not None and stream.terminal.kind == "end"]


def _frequencies(recording: Recording, temperature: float) -> Findings:
    faces = faces_of(recording)
    for stream in _ended(recording, f"odds at {temperature}"):
        counts = counts_of(stream)
        if not faces or sum(counts.values()) < LEAST_THROWS:
            continue
        expected = odds(faces, temperature=temperature)
        off = deviation(counts, expected)
        yield require(
            off <= SIGMA,
            stream,
            "wrong-odds",
            f"tokens at temperature {temperature} do not fall with the model's odds",
            expected=", ".join(f"{face!r} {share:.3f}" for face, share in expected.items()),
            actual=f"{shares_of(counts)} ({off:.1f} standard deviations off)",
            seen=f"{sum(counts.values())} tokens, {off:.1f} standard deviations",
        )


@judge("M0-W-1032/unscaled-at-one")
def unscaled_at_one(recording: Recording) -> Findings:
    """Softmax of the logits as they are."""
    yield from _frequencies(recording, 1.0)


@judge("M0-W-1032/scales")
def scales(recording: Recording) -> Findings:
    """Softmax of the divided logits."""
    yield from _frequencies(recording, 0.5)
    yield from _frequencies(recording, 2.0)


def _support(stream: Stream, expected: dict[str, float], key: str, what: str) -> Findings:
    """Exactly the expected faces fell; each is expected at least a dozen times."""
    seen = set(counts_of(stream))
    yield require(
        seen == set(expected),
        stream,
        key,
        f"{what}: other tokens occur than those it leaves",
        expected=", ".join(map(repr, expected)),
        actual=", ".join(map(repr, sorted(seen))) or "nothing",
        seen=f"{len(stream.tokens)} tokens, {len(seen)} faces",
    )


@judge("M0-W-1421/top-k-cut")
def top_k_cut(recording: Recording) -> Findings:
    """The three most likely faces, each of them."""
    for stream in _ended(recording, "top_k cut"):
        yield from _support(stream, odds(faces_of(recording), top_k=3), "top-k-not-cut", "top_k 3")


@judge("M0-W-1421/top-p-cut")
def top_p_cut(recording: Recording) -> Findings:
    """The smallest set that reaches 0.8."""
    for stream in _ended(recording, "top_p cut"):
        yield from _support(stream, odds(faces_of(recording), top_p=0.8), "top-p-not-cut", "top_p 0.8")


@judge("M0-W-1421/temperature-first")
def temperature_first(recording: Recording) -> Findings:
    """At temperature 2 the nucleus of 0.9 holds one face more than at temperature 1.

    Judged only where the cut itself works: without one, or with another, M0-W-1421/top-p-cut says so.
    """
    faces = faces_of(recording)
    plain = _ended(recording, "top_p cut")
    if not plain or any(set(counts_of(stream)) != set(odds(faces, top_p=0.8)) for stream in plain):
        return
    for stream in _ended(recording, "hot top_p cut"):
        expected = odds(faces, temperature=2.0, top_p=0.9)
        yield from _support(stream, expected, "nucleus-before-temperature", "top_p 0.9 at temperature 2")


@judge("M0-W-1421/penalty-effect")
def penalty_effect(recording: Recording) -> Findings:
    """The commonest face falls less often with penalty 2 than with 1, and more often with 0.5."""
    faces = faces_of(recording)
    shares: dict[float, tuple[Stream, float, int]] = {}
    for penalty in (0.5, 1.0, 2.0):
        for stream in _ended(recording, f"penalty {penalty}"):
            counts = counts_of(stream)
            n = sum(counts.values())
            if faces and n >= LEAST_THROWS:
                shares[penalty] = (stream, counts[max(faces, key=lambda face: faces[face])] / n, n)
    if 1.0 not in shares:
        return
    _, plain, n = shares[1.0]
    for penalty, sign, word in ((2.0, -1, "rarer"), (0.5, 1, "more frequent")):
        if penalty not in shares:
            continue
        stream, share, m = shares[penalty]
        spread = (plain * (1 - plain) / n + share * (1 - share) / m) ** 0.5
        yield require(
            sign * (share - plain) > 2 * spread,
            stream,
            "penalty-without-effect",
            f"repetition_penalty {penalty} does not make repeated tokens {word}",
            expected=f"the commonest token {word} than {plain:.3f} of all",
            actual=f"{share:.3f}",
            seen=f"share {share:.3f} against {plain:.3f}",
        )


def _same(reference: list[Stream], others: list[Stream], key: str, message: str) -> Findings:
    if not reference:
        return
    wanted = reference[0].pieces
    for stream in others:
        if stream.pieces == wanted:
            yield ok(stream)
        else:
            index = next(
                (i for i, (a, b) in enumerate(zip(wanted, stream.pieces, strict=False)) if a != b),
                min(len(wanted), len(stream.pieces)),
            )
            yield fail(
                stream,
                key,
                f"{message}; the first difference is token {index}",
                expected=repr("".join(wanted))[:160],
                actual=repr(stream.text)[:160],
                at=stream.tokens[index] if index < len(stream.tokens) else None,
            )


def _not_all_same(runs: list[Stream], key: str, message: str) -> Findings:
    if len(runs) < 3 or not any(stream.text for stream in runs):
        return
    if len({tuple(stream.pieces) for stream in runs}) > 1:
        for stream in runs:
            yield ok(stream)
    else:
        actual = f"{len(runs)} runs, one text {runs[0].text!r:.100}"
        yield fail(runs[-1], key, message, expected="at least two texts", actual=actual)


@judge("M0-W-1030/same-seed")
def same_seed(recording: Recording) -> Findings:
    """Two runs with seed 7, other jobs between them."""
    runs = _ended(recording, "same seed")
    if len(runs) > 1:
        yield from _same(runs[:1], runs, "same-seed-differs", "the same request with the same seed differs")


@judge("M0-W-1030/different-seeds")
def different_seeds(recording: Recording) -> Findings:
    """Five seeds at temperature 2. Where temperature does nothing at all, M0-W-1032/applies says so."""
    hot, greedy = _ended(recording, "hot"), _ended(recording, "greedy")
    if greedy and hot and all(stream.pieces == greedy[0].pieces for stream in hot):
        return
    yield from _not_all_same(hot, "seeds-without-effect", "every seed yields the same text")


@judge("M0-W-1030/seed-omitted-varies")
def seed_omitted_varies(recording: Recording) -> Findings:
    """Five runs without a seed at temperature 2; where temperature does nothing, they say nothing."""
    runs, greedy = _ended(recording, "hot without seed"), _ended(recording, "greedy")
    if greedy and runs and all(stream.pieces == greedy[0].pieces for stream in runs):
        return
    yield from _not_all_same(runs, "constant-seed", "without a seed every run yields the same text")


def stated_seed(stream: Stream) -> int | None:
    """The integer `seed` of started or end."""
    for event in stream.of("started", "end"):
        value = event.data.get("seed")
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


@judge("M0-W-1030/seed-reported")
def seed_reported(recording: Recording) -> Findings:
    """An integer in started or end of a run without a seed."""
    for stream in [*_ended(recording, "hot without seed"), *_ended(recording, "replay")]:
        yield require(
            stated_seed(stream) is not None,
            stream,
            "seed-not-reported",
            "the seed that the worker chose is not stated",
            expected="an integer `seed` in started or end",
            actual="none",
            at=stream.started,
        )


def _seed_works(recording: Recording) -> bool:
    """Equal seeds gave equal texts; where they did not, M0-W-1030/same-seed says it, and no relation on top of it."""
    runs = _ended(recording, "same seed")
    return all(stream.pieces == runs[0].pieces for stream in runs)


@judge("M0-W-1030/seed-replays")
def seed_replays(recording: Recording) -> Findings:
    """The stated seed sent back gives the same text."""
    if not _seed_works(recording):
        return
    yield from _same(
        _ended(recording, "replay"),
        _ended(recording, "replayed"),
        "stated-seed-does-not-replay",
        "the stated seed, sent back, yields another text",
    )


@judge("M0-W-1032/greedy-any-seed")
def greedy_any_seed(recording: Recording) -> Findings:
    """Five seeds at temperature 0."""
    runs = _ended(recording, "greedy")
    yield from _same(runs[:1], runs, "greedy-depends-on-seed", "at temperature 0 the text depends on the seed")


@judge("M0-W-1032/applies")
def applies(recording: Recording) -> Findings:
    """Five seeds at temperature 2 against temperature 0."""
    greedy, hot = _ended(recording, "greedy"), _ended(recording, "hot")
    if not greedy or len(hot) < 3:
        return
    if len({tuple(stream.pieces) for stream in greedy}) > 1:
        return
    if any(stream.pieces != greedy[0].pieces for stream in hot):
        yield ok(recording, f"{len(hot)} hot runs")
    else:
        yield fail(
            hot[-1],
            "temperature-without-effect",
            "temperature 2 yields the text of temperature 0 for every seed",
            expected="another text for at least one of the seeds",
            actual=repr(hot[-1].text)[:160],
        )


def _greedy(recording: Recording) -> list[Stream]:
    """The greedy runs, when they agree; else M0-W-1032/greedy-any-seed has spoken."""
    runs = _ended(recording, "greedy")
    return runs[:1] if len({tuple(stream.pieces) for stream in runs}) == 1 else []


@judge("M0-W-1421/top-k-one")
def top_k_one(recording: Recording) -> Findings:
    """The greedy text at temperature 2."""
    runs = _ended(recording, "top_k one")
    yield from _same(_greedy(recording), runs, "top-k-one-not-greedy", "top_k 1 does not yield the greedy text")


@judge("M0-W-1421/top-p-zero")
def top_p_zero(recording: Recording) -> Findings:
    """The greedy text at temperature 2, with 0 and with 0.000001."""
    runs = [*_ended(recording, "top_p zero"), *_ended(recording, "top_p nearly zero")]
    yield from _same(_greedy(recording), runs, "top-p-zero-not-greedy", "top_p 0 does not yield the greedy text")


@judge("M0-W-1421/top-k-off")
def top_k_off(recording: Recording) -> Findings:
    """0 and the vocabulary's size, one seed."""
    if not _seed_works(recording):
        return
    off, whole = _ended(recording, "top_k off"), _ended(recording, "top_k all")
    yield from _same(off, whole, "top-k-all-differs", "top_k of the vocabulary's size changes the text")


@judge("M0-W-1421/min-p-zero")
def min_p_zero(recording: Recording) -> Findings:
    """0.0 against nothing with one seed; and no value of it is a server error."""
    off, zero = _ended(recording, "top_k off"), _ended(recording, "min_p zero")
    if _seed_works(recording):
        yield from _same(off, zero, "min-p-zero-differs", "min_p 0.0 changes the text")
    for label in ("min_p zero", "min_p odd"):
        for exchange in recording.labelled(label):
            if exchange.status is None:
                continue
            if exchange.status >= 500 and exchange.status != 503:
                yield fail(
                    exchange, "min-p-server-error", "min_p is a server error", expected="a stream, or HTTP 400",
                    actual=describe(exchange),
                )  # fmt: skip
            else:
                yield ok(exchange)


@judge("M0-W-1421/penalty-zero")
def penalty_zero(recording: Recording) -> Findings:
    """A complete stream, no NaN in it."""
    for exchange in recording.labelled("penalty zero"):
        if exchange.status is not None and exchange.status != 200:
            yield fail(
                exchange, "penalty-zero-refused", "a repetition penalty of 0 is refused", expected="a stream",
                actual=describe(exchange),
            )  # fmt: skip
    for stream in streams(recording, "penalty zero"):
        terminal = stream.terminal
        if terminal is None:
            continue
        yield require(
            terminal.kind == "end" and b"NaN" not in stream.exchange.body,
            stream,
            "penalty-zero-breaks",
            "a repetition penalty of 0 does not give a complete stream",
            expected="end, and no NaN",
            actual=f"{terminal.kind} {terminal.data.get('code', '')}".strip(),
            at=terminal,
        )
