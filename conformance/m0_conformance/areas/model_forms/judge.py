"""Judges of model files of every form that must load: storage types, containers, architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.judging import (
    Exchange,
    Finding,
    Findings,
    Json,
    Recording,
    describe,
    fail,
    judge,
    ok,
    parse_json,
    require,
    stream_of,
)
from m0_conformance.judging.fields import GGUF_FORMATS, is_integer
from m0_conformance.judging.rendering import rendering_of

if TYPE_CHECKING:
    from collections.abc import Iterator


_LOADS = (
    "M0-W-1201/mxfp4-runs",
    "M0-W-1201/q4-k-m-runs",
    "M0-W-1201/q4-0-runs",
    "M0-W-1211/alignment",
    "M0-W-1211/optional-keys",
    "M0-W-1212/llama",
    "M0-W-1212/gpt2",
    "M0-W-1214/tied-output",
    "M0-W-1214/attention-biases",
    "M0-W-1230/qwen2-form",
    "M0-W-1230/phi3-form",
    "M0-W-1230/gpt-oss-form",
)


def _models(recording: Recording) -> Iterator[tuple[str, dict[str, Json]]]:
    yield from recording.facts.get("models", {}).items()


def _text_is(
    recording: Recording, exchange: Exchange, wanted: str, key: str, message: str, clause: str = ""
) -> Finding:
    stream, worn = stream_of(exchange), rendering_of(recording).worn
    if worn(stream.text) == worn(wanted):
        return ok(stream, clause=clause)
    return fail(
        stream,
        key,
        message,
        expected=repr(wanted[:80]),
        actual=repr(stream.text[:80]) if stream.tokens else describe(exchange),
        clause=clause,
    )


def _other_text(recording: Recording, exchange: Exchange, unlike: str, clause: str) -> Finding:
    """The same job on other weights says something else than the one labelled `unlike`."""
    other = recording.exchange(f"job {unlike}")
    stream = stream_of(exchange)
    if other is None or stream.pieces != stream_of(other).pieces:
        return ok(stream, clause=clause)
    return fail(
        stream,
        "weights-unheard",
        "with one tensor of the model zeroed the answer is the same",
        expected=f"another text than {stream.text[:80]!r}",
        actual=repr(stream.text[:80]),
        clause=clause,
    )


@judge(*_LOADS)
def loads_and_says(recording: Recording) -> Findings:
    """Ready, a job that ends with end, and the text where the weights promise one."""
    for label, promise in _models(recording):
        launch = recording.launch(label)
        for clause in promise["clauses"]:
            if launch is not None and launch.ready_at is None:
                yield fail(
                    launch, "does-not-load", f"a good file is not loaded: {label}", expected="ready", clause=clause
                )
                continue
            for exchange in recording.labelled(f"job {label}"):
                terminal = stream_of(exchange).terminal
                if terminal is None or terminal.kind != "end":
                    yield fail(
                        exchange,
                        "serves-no-job",
                        f"a model loads but serves no job: {label}",
                        expected="end",
                        clause=clause,
                    )
                elif promise.get("unlike"):
                    yield _other_text(recording, exchange, str(promise["unlike"]), clause)
                elif promise["text"] is None:
                    yield ok(exchange, clause=clause)
                else:
                    message = f"a model does not say what its weights say: {label}"
                    yield _text_is(recording, exchange, promise["text"], "other-text", message, clause)


def _health(recording: Recording) -> Iterator[tuple[Exchange, dict[str, Json], dict[str, Json]]]:
    for label, promise in _models(recording):
        for exchange in recording.labelled(f"health {label}"):
            body = parse_json(exchange.body).value if exchange.status == 200 else None
            if isinstance(body, dict):
                yield exchange, body, promise


@judge("M0-W-1201/quant-kind-stored")
def quant_kind_stored(recording: Recording) -> Findings:
    """Equal to the declared format, where that is one of M0's three."""
    for exchange, body, promise in _health(recording):
        if promise["format"] is None or body.get("quant_kind") not in GGUF_FORMATS:
            continue  # no name of a format at all is M0-W-1320/quant-kind's
        yield require(
            body["quant_kind"] == promise["format"],
            exchange,
            "other-quant-kind",
            "quant_kind is not the format that the file declares",
            expected=promise["format"],
            actual=repr(body["quant_kind"])[:80],
        )


@judge("M0-W-1211/context-length")
def context_length(recording: Recording) -> Findings:
    """No more than the file's; null says unknown, which is for M0-W-1320/context-length."""
    for exchange, body, promise in _health(recording):
        value, known = body.get("context_length"), promise["context"]
        if known is None or value is None or not is_integer(value):
            continue
        yield require(
            0 < value <= known,
            exchange,
            "context-length-not-the-files",
            "context_length is not the file's",
            expected=f"{known}, or less",
            actual=str(value),
        )


@judge("M0-W-1430/positions")
def positions(recording: Recording) -> Findings:
    """The position probes echo the prompt's last four characters, over and over."""
    for label, wanted in recording.facts.get("echoes", {}).items():
        for exchange in recording.labelled(label):
            if exchange.status == 200:
                yield _text_is(
                    recording, exchange, wanted, "echo-lost", "attention does not see the token at its position"
                )


@judge("M0-W-1430/attends-to-context")
def attends_to_context(recording: Recording) -> Findings:
    """The memory probe repeats what was most frequent far back, and never says what was not there."""
    for label, wanted in recording.facts.get("remembered", {}).items():
        for exchange in recording.labelled(label):
            if exchange.status == 200:
                yield _text_is(
                    recording, exchange, wanted, "context-forgotten", "a token far back in the prompt has no effect"
                )
    for label, seen in recording.facts.get("alphabets", {}).items():
        for exchange in recording.labelled(label):
            stream = stream_of(exchange)
            strange = sorted(set(stream.text) - set(seen))
            if not stream.tokens:
                continue
            yield require(
                not strange,
                stream,
                "token-from-nowhere",
                "a token that is not in the context takes part",
                expected=f"characters of {seen!r}",
                actual=repr("".join(strange)),
            )
