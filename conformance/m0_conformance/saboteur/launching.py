"""Lies about a launch: the worker's arguments read and changed, and another model file in place of the one named."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn

from m0_conformance.saboteur.defect import Defect, Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Request

DEEP_BYTES = 12 << 20
"""Only the probe of 48 layers, which takes its time to load and to run, is larger."""


def given(argv: list[str], name: str) -> str | None:
    """Value of an argument; None when it is left out."""
    at = argv.index(name) + 1 if name in argv else len(argv)
    return argv[at] if at < len(argv) else None


def replaced(argv: list[str], name: str, value: str) -> list[str]:
    """The command line with another value for an argument, or with the argument."""
    if name not in argv:
        return [*argv, name, value]
    at = argv.index(name) + 1
    return [*argv[:at], value, *argv[at + 1 :]]


def without(argv: list[str], name: str) -> list[str]:
    """The command line without an argument and its value."""
    if name not in argv:
        return argv
    at = argv.index(name)
    return [*argv[:at], *argv[at + 2 :]]


class Launched(Defect):
    """Knows which model its worker was started with, and may have a lie in its place."""

    def __init__(self) -> None:
        self.model = Path()
        self._scratch: Path | None = None

    async def arguments(self, argv: list[str]) -> list[str]:
        """Note the model."""
        self.model = Path(given(argv, "--model") or "")
        return argv

    @property
    def deep(self) -> bool:
        """The worker serves the probe that is slow to load."""
        return self.model.is_file() and DEEP_BYTES < self.model.stat().st_size < 2 * DEEP_BYTES

    @property
    def keeps_file(self) -> bool:
        """The worker serves a file that goes with this process."""
        return self._scratch is not None

    def other_file(self, write: Callable[[Path], object]) -> str:
        """Path of a file that `write` made; it lives as long as this process."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="m0-saboteur-"))
            atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
        path = self._scratch / (self.model.name or "other.gguf")
        write(path)
        return str(path)

    def good_file(self) -> str:
        """Path of a small model that every worker serves."""
        from m0_models.probes import metronome  # noqa: PLC0415 - NumPy, for the few launches that need it

        return self.other_file(metronome)


class Accepts(Launched):
    """Serves a model although the file named is broken."""

    files: ClassVar[tuple[str, ...]] = ()
    """Names of files, without suffix."""

    async def arguments(self, argv: list[str]) -> list[str]:
        """Another file instead of these."""
        argv = await super().arguments(argv)
        return replaced(argv, "--model", self.good_file()) if self.model.stem in self.files else argv


class Refuses(Launched):
    """Fails to load a file that is good."""

    files: ClassVar[tuple[str, ...]] = ()
    reason: ClassVar[str] = ""

    async def arguments(self, argv: list[str]) -> list[str]:
        """Leave where the model is one of these."""
        argv = await super().arguments(argv)
        if self.model.stem in self.files:
            refuse(argv, self.reason)
        return argv


def refuse(argv: list[str], reason: str) -> NoReturn:
    """Leave as a worker does that cannot load its model."""
    context = f"(model {given(argv, '--model')!r}, gpu-device {given(argv, '--gpu-device')})"
    raise Exit(1, f"m0-worker: MODEL_LOAD_FAILED: {reason} {context}")


class Signalled(Launched):
    """Remembers the first signal and whether a job ran then."""

    def __init__(self) -> None:
        super().__init__()
        self.told = False
        self.busy = False
        self.served = 0

    async def signal(self, number: int, proxy: Proxy) -> bool:
        if not self.told:
            self.told, self.busy = True, bool(proxy.running)
        return True

    async def after_stream(self, request: Request, proxy: Proxy) -> None:
        self.served += 1
