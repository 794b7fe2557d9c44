"""Defects of broken model files: refused at start, with code, context and words."""

from __future__ import annotations

import json
import os
import re
import signal

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.launching import Accepts, Launched


class FailedLoad(Defect):
    """Changes what is said and shown when a model cannot be loaded; wrong arguments are refused as they are."""

    def __init__(self) -> None:
        self.failed = False

    def line(self, stream: str, text: str) -> list[str]:
        failure = stream == "stderr" and bool(re.search(r"\b[A-Z]+_[A-Z_]+\b", text))
        event = stream == "stdout" and '"event": "error"' in text
        self.failed = self.failed or failure or event
        return self.said(stream, text) if failure or event else [text]

    def said(self, stream: str, text: str) -> list[str]:
        """The lines that come out for a line about the failure."""
        return [text]


class FailedLoadIsSuccess(FailedLoad):
    name = "failed-load-exit-zero"
    about = "A start that fails while loading ends with exit code 0."
    kills = ("M0-W-1111/exit-code",)
    source = "an error that is logged and swallowed"

    async def exit_code(self, code: int, *, ready: bool) -> int:
        return 0 if self.failed and not ready else code


class FailedLoadOtherCode(FailedLoad):
    name = "failed-load-exit-seventy"
    about = "A refused model file ends the start with exit code 70."
    kills = ("M0-W-1210/exit-one",)
    source = "the runtime's own code for an unhandled error"

    async def exit_code(self, code: int, *, ready: bool) -> int:
        return 70 if self.failed and not ready else code


class FailedLoadSilent(FailedLoad):
    name = "failed-load-silent"
    about = "Nothing is written to stderr when a model cannot be loaded."
    kills = ("M0-W-1111/message",)
    source = "known defect 38: silent failure"

    def said(self, stream: str, text: str) -> list[str]:
        return [] if stream == "stderr" else [text]


class FailedLoadNoCode(FailedLoad):
    name = "failed-load-without-code"
    about = "The message about a failed start holds no error code."
    kills = ("M0-W-1111/message",)
    source = "an error converted to text"

    def said(self, stream: str, text: str) -> list[str]:
        return [re.sub(r"\b[A-Z]+(?:_[A-Z]+)+\b:? ?", "", text) if stream == "stderr" else text]


class FailedLoadNoContext(FailedLoad):
    name = "failed-load-without-context"
    about = "What is logged about a failed start says nothing about the device."
    kills = ("M0-W-1111/context",)
    source = "an error converted to text without its context"

    def said(self, stream: str, text: str) -> list[str]:
        if stream == "stderr":
            return [re.sub(r"(?i)(?:gpu-)?device \w+", "", text)]
        event = json.loads(text)
        return [json.dumps({key: value for key, value in event.items() if "device" not in key})]


class FailedLoadVague(FailedLoad):
    name = "failed-load-vague"
    about = "Whatever is wrong with a file, the message is that something is wrong; only architectures are named."
    kills = ("M0-W-1210/says-what",)
    source = "one message for every cause"

    def said(self, stream: str, text: str) -> list[str]:
        if "architecture" in text:
            return [text]
        if stream == "stderr":
            context = text[text.rfind("(model") :]
            return [f"m0-worker: MODEL_LOAD_FAILED: something is wrong {context.partition(', reason')[0]}"]
        event = json.loads(text)
        kept = ("event", "worker_id", "model_ref", "gpu_device", "code")
        return [json.dumps({"message": "something is wrong", **{key: event[key] for key in kept if key in event}})]


class FailedLoadOtherName(FailedLoad):
    name = "failed-load-own-code"
    about = "A file that is no GGUF is reported as LOADER_ERROR."
    kills = ("M0-W-1410/load-failed-code",)
    source = "known defect 7: codes outside the set"

    def said(self, stream: str, text: str) -> list[str]:
        return [text.replace("MODEL_LOAD_FAILED", "LOADER_ERROR")]


class FailedLoadNoEvent(FailedLoad):
    name = "failed-load-without-event"
    about = "No event error is logged when a start fails."
    kills = ("M0-W-1900/error",)
    source = "an early return before the log"

    def said(self, stream: str, text: str) -> list[str]:
        return [] if stream == "stdout" else [text]


class AcceptsOldVersion(Accepts):
    name = "gguf-version-2-accepted"
    about = "A GGUF file of version 2 is served."
    kills = ("M0-W-1200/other-versions",)
    source = "known defect 38: a file read under the wrong layout"
    files = ("corrupt-version-2",)


class AcceptsMagic(Accepts):
    name = "gguf-magic-ignored"
    about = "A file with another magic is served."
    kills = ("M0-W-1210/magic",)
    source = "a header read without a look at its first four bytes"
    files = ("corrupt-bad-magic",)


class AcceptsManyTensors(Accepts):
    name = "gguf-tensor-count-unbounded"
    about = "A file that announces ten thousand tensors is served with those that are there."
    kills = ("M0-W-1210/tensor-count",)
    source = "known defect 44: a loader that goes on with what it could read"
    files = ("corrupt-10000-tensors",)


class AcceptsTruncated(Accepts):
    name = "gguf-truncated-accepted"
    about = "A file that ends inside its tensors is served; what is missing reads as zero."
    kills = ("M0-W-1210/truncated",)
    source = "known defect 44"
    files = ("corrupt-truncated",)


class AcceptsTooBig(Accepts):
    name = "gguf-too-big-accepted"
    about = "A file that exceeds the memory is served, page by page from the disk."
    kills = ("M0-W-1210/too-big",)
    source = "a mapping that stands in for device memory"
    files = ("oversized",)


class DefaultsKey(Accepts):
    name = "gguf-key-defaulted"
    about = "Where the context length is missing, a default takes its place."
    kills = ("M0-W-1211/required-keys",)
    source = "known defect 38: missing key, silent fallback"
    files = ("corrupt-no-context-length",)


class AcceptsOffset(Accepts):
    name = "gguf-offset-unchecked"
    about = "A tensor whose offset lies behind the end of the file is served."
    kills = ("M0-W-1211/hostile-header",)
    source = "a bound checked when the tensor is read, which never happens"
    files = ("corrupt-offset-outside",)


class DiesOfString(Launched):
    name = "gguf-huge-string-kills"
    about = "A string length of 2^62 is believed, and the process dies of it."
    kills = ("M0-W-1211/hostile-header",)
    source = "an allocation of the size that the file names"
    crashes = True

    async def arguments(self, argv: list[str]) -> list[str]:
        argv = await super().arguments(argv)
        if self.model.stem == "corrupt-huge-string":
            os.kill(os.getpid(), signal.SIGKILL)
        return argv


class UnknownIsLlama(Accepts):
    name = "architecture-unknown-as-llama"
    about = "An architecture that nobody knows is run as llama."
    kills = ("M0-W-1212/unknown-refused",)
    source = "a default branch"
    files = ("corrupt-unknown-architecture",)


class UnknownUnnamed(Defect):
    name = "architecture-unknown-unnamed"
    about = "An unknown architecture is refused without its name."
    kills = ("M0-W-1212/unknown-refused",)
    source = "one message for every cause"

    def line(self, stream: str, text: str) -> list[str]:
        return [text.replace("bloom", "?")]


class SkipsTensor(Accepts):
    name = "gguf-missing-tensor-skipped"
    about = "A file without one of its tensors is served."
    kills = ("M0-W-1214/missing-tensor",)
    source = "known defect 44: 2 of 291 tensors loaded"
    files = ("corrupt-missing-tensor",)


class AcceptsShape(Accepts):
    name = "gguf-shape-unchecked"
    about = "A tensor of another shape than its architecture needs is served."
    kills = ("M0-W-1214/missing-tensor",)
    source = "known defect 40: dimensions taken from the tensor"
    files = ("corrupt-wrong-shape",)


class DefaultsPreTokenizer(Accepts):
    name = "pre-tokenizer-defaulted"
    about = "An unknown pre-tokenizer is taken for the default one."
    kills = ("M0-W-1362/unknown-pre",)
    source = "known defect 35"
    files = ("corrupt-unknown-pre-tokenizer",)
