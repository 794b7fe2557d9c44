"""Defects of broken model files: refused at start, with code, context and words."""

from __future__ import annotations

import json
import os
import re
import signal

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.launching import Launched
from m0_conformance.saboteur.lie import lie, on_log_line


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


on_failure = lie("said", FailedLoad)


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


@on_failure("M0-W-1111/message", source="known defect 38: silent failure")
def failed_load_silent(stream: str, text: str) -> list[str]:
    """Nothing is written to stderr when a model cannot be loaded."""
    return [] if stream == "stderr" else [text]


@on_failure("M0-W-1111/message", source="an error converted to text")
def failed_load_without_code(stream: str, text: str) -> list[str]:
    """The message about a failed start holds no error code."""
    return [re.sub(r"\b[A-Z]+(?:_[A-Z]+)+\b:? ?", "", text) if stream == "stderr" else text]


@on_failure("M0-W-1111/context", source="an error converted to text without its context")
def failed_load_without_context(stream: str, text: str) -> list[str]:
    """What is logged about a failed start says nothing about the device."""
    if stream == "stderr":
        return [re.sub(r"(?i)(?:gpu-)?device \w+", "", text)]
    event = json.loads(text)
    return [json.dumps({key: value for key, value in event.items() if "device" not in key})]


@on_failure("M0-W-1210/says-what", source="one message for every cause")
def failed_load_vague(stream: str, text: str) -> list[str]:
    """Whatever is wrong with a file, the message is that something is wrong; only architectures are named."""
    if "architecture" in text:
        return [text]
    if stream == "stderr":
        context = text[text.rfind("(model") :]
        return [f"m0-worker: MODEL_LOAD_FAILED: something is wrong {context.partition(', reason')[0]}"]
    event = json.loads(text)
    kept = ("event", "worker_id", "model_ref", "gpu_device", "code")
    return [json.dumps({"message": "something is wrong", **{key: event[key] for key in kept if key in event}})]


@on_failure("M0-W-1410/load-failed-code", source="known defect 7: codes outside the set")
def failed_load_own_code(text: str) -> list[str]:
    """A file that is no GGUF is reported as LOADER_ERROR."""
    return [text.replace("MODEL_LOAD_FAILED", "LOADER_ERROR")]


@on_failure("M0-W-1900/error", source="an early return before the log")
def failed_load_without_event(stream: str, text: str) -> list[str]:
    """No event error is logged when a start fails."""
    return [] if stream == "stdout" else [text]


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


@on_log_line("M0-W-1212/unknown-refused", source="one message for every cause")
def architecture_unknown_unnamed(text: str) -> list[str]:
    """An unknown architecture is refused without its name."""
    return [text.replace("bloom", "?")]
