"""Defects of the command line: wrong, missing and optional arguments."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from m0_conformance.saboteur.defect import Defect, Exit
from m0_conformance.saboteur.launching import Launched, given, replaced, without
from m0_conformance.saboteur.lie import on_arguments


def is_uuid(text: str | None) -> bool:
    """Whether this is a worker id that must be accepted."""
    with suppress(ValueError):
        return text is not None and len(text) == 36 and bool(uuid.UUID(text))
    return False


def kind_of(path: str) -> str:
    """What stands there: the word file, directory or missing."""
    found = Path(path)
    return "directory" if found.is_dir() else "file" if found.exists() else "missing"


def in_use(port: str | None) -> bool:
    """Whether somebody listens on this port."""
    if port is None or not port.isdigit() or not 1024 <= int(port) <= 65535:
        return False
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


@on_arguments("M0-W-1100/required", source="an optional argument with a default")
def worker_id_invented(argv: list[str]) -> list[str]:
    """Without --worker-id the worker makes one up and starts."""
    return argv if "--worker-id" in argv else replaced(argv, "--worker-id", str(uuid.uuid4()))


@on_arguments("M0-W-1100/worker-id-uuid", source="a string where a type was meant")
def worker_id_any_text(argv: list[str]) -> list[str]:
    """A worker id that is no UUID is accepted."""
    value = given(argv, "--worker-id")
    return argv if value is None or is_uuid(value) else replaced(argv, "--worker-id", str(uuid.uuid4()))


class BuiltInModel(Launched):
    name = "model-missing-built-in"
    about = "Where the model file does not exist, a built-in one is served."
    kills = ("M0-W-1100/model-exists",)
    source = "known defect 51: canned output"

    async def arguments(self, argv: list[str]) -> list[str]:
        value = given(argv, "--model")
        return argv if value is None or kind_of(value) != "missing" else replaced(argv, "--model", self.good_file())


class SearchesDirectory(Launched):
    name = "model-directory-searched"
    about = "A directory is taken for the model that it, or its parent, may hold."
    kills = ("M0-W-1100/model-readable",)
    source = "known defect 21: weights looked up in the parent directory"

    async def arguments(self, argv: list[str]) -> list[str]:
        value = given(argv, "--model")
        return argv if value is None or kind_of(value) != "directory" else replaced(argv, "--model", self.good_file())


@on_arguments("M0-W-1100/gpu-device-valid", source="a number taken modulo the device count")
def gpu_device_clamped(argv: list[str]) -> list[str]:
    """A device number beyond the last becomes 0."""
    value = given(argv, "--gpu-device") or ""
    return replaced(argv, "--gpu-device", "0") if value.isdigit() and int(value) > 64 else argv


@on_arguments("M0-W-1100/port-range", source="an error that is printed, and no more")
def port_range_exit_zero(argv: list[str]) -> list[str]:
    """A privileged port is refused with exit code 0."""
    value = given(argv, "--port") or ""
    if value.isdigit() and int(value) < 1024:
        raise Exit(0, f"m0-worker: --port {value}: below 1024")
    return argv


@on_arguments("M0-W-1100/port-free", source="known defect 14")
def port_conflict_exit_zero(argv: list[str]) -> list[str]:
    """Where the port is in use the worker says that it runs already, and leaves with exit code 0."""
    if in_use(given(argv, "--port")):
        raise Exit(0, f"m0-worker: --port {given(argv, '--port')}: a worker runs here already")
    return argv


class PortConflictAfterLoad(Defect):
    name = "port-conflict-after-load"
    about = "A port in use is found when the model has been loaded."
    kills = ("M0-W-1100/before-load",)
    source = "known defect 14: port conflict found only after minutes of loading"

    def __init__(self) -> None:
        self.port: str | None = None

    async def arguments(self, argv: list[str]) -> list[str]:
        if not in_use(given(argv, "--port")):
            return argv
        self.port = given(argv, "--port")
        with socket.create_server(("127.0.0.1", 0)) as free:
            return replaced(argv, "--port", str(free.getsockname()[1]))

    def line(self, stream: str, text: str) -> list[str]:
        if self.port is not None and '"model_load_complete"' in text:
            os.kill(os.getpid(), signal.SIGTERM)  # passed on to the worker that has been loaded for nothing
        return [text]

    async def exit_code(self, code: int, *, ready: bool) -> int:
        if self.port is None:
            return code
        raise Exit(2, f"m0-worker: --port {self.port}: already in use")


@on_arguments("M0-W-1100/before-load", source="arguments checked after the libraries are loaded")
async def refusal_after_seconds(argv: list[str]) -> list[str]:
    """A wrong worker id is refused, but only after six seconds."""
    value = given(argv, "--worker-id")
    if value is not None and not is_uuid(value):
        await asyncio.sleep(6.0)
    return argv


@on_arguments("M0-W-1100/names-argument", source="an error converted to text without its context")
def refusal_names_nothing(argv: list[str]) -> list[str]:
    """The message about a wrong worker id says that something is invalid, not what."""
    value = given(argv, "--worker-id")
    if value is not None and not is_uuid(value):
        raise Exit(2, "Error: invalid character: found `n` at 1")
    return argv


@on_arguments("M0-W-1100/names-argument", source="output buffered when the process exits")
def refusal_silent(argv: list[str]) -> list[str]:
    """A wrong device number ends the start without a word."""
    value = given(argv, "--gpu-device")
    if value is not None and value != "0":
        raise Exit(2)
    return argv


@on_arguments("M0-W-1100/callback-accepted", source="an optional argument left out")
def callback_url_unknown(argv: list[str]) -> list[str]:
    """--callback-url is no argument of this worker."""
    if "--callback-url" in argv:
        raise Exit(2, "m0-worker: unrecognized arguments: --callback-url")
    return argv


class IgnoresArgument(Defect):
    """Accepts an option and does nothing with it."""

    option: ClassVar[str] = ""

    async def arguments(self, argv: list[str]) -> list[str]:
        return without(argv, self.option)
