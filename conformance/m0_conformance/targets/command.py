"""A command line that starts a worker, with M0-W-1100's arguments put where the user wants them.

Either the command holds placeholders, each replaced wherever it stands ({worker_id} {model} {gpu_device} {port},
{model_dir} for a container's volume, {callback_url} for a listener of the suite's), or the four arguments of M0-W-1100
are appended. `docker run …` and `podman run …` are commands like any other.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from m0_conformance.targets.host import nvidia_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ARGUMENTS = ("worker_id", "model", "gpu_device", "port")
CALLBACK = "callback_url"
_OPTION = "--callback-url"
_PLACEHOLDERS = (*ARGUMENTS, "model_dir", CALLBACK)


class CommandError(ValueError):
    """No usable command; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Command:
    """A worker's command line."""

    words: tuple[str, ...]
    bundled: bool = False
    """It is the worker of this repository."""

    def __str__(self) -> str:
        return shlex.join(self.words)

    @property
    def templated(self) -> bool:
        """It holds placeholders."""
        return any(f"{{{name}}}" in word for word in self.words for name in ARGUMENTS)

    @property
    def calls_back(self) -> bool:
        """It wants the URL of a listener of ours."""
        return any(f"{{{CALLBACK}}}" in word for word in self.words)

    def passes(self, name: str) -> bool:
        """Whether the worker gets this argument from us; of what it does not get nobody can accuse it."""
        return not self.templated or any(f"{{{name}}}" in word for word in self.words)

    def can_omit(self, name: str) -> bool:
        """Whether an argument can be left out: always when appended, else when it is a word of its own after a flag."""
        if not self.templated:
            return True
        return any(
            word == f"{{{name}}}" and index > 0 and self.words[index - 1].startswith("-")
            for index, word in enumerate(self.words)
        )

    def argv(self, values: Mapping[str, str | None], extra: Sequence[str] = ()) -> list[str]:
        """The argument vector. `values`: the four arguments by name, None to leave one out; `extra` is appended.

        A --callback-url in `extra` takes the place of the one that the command has.
        """
        words, values, extra = self._called_back(values, extra)
        if not self.templated:
            flags = [
                part
                for name in ARGUMENTS
                if (value := values.get(name)) is not None
                for part in (f"--{name.replace('_', '-')}", value)
            ]
            return [*(word.replace(f"{{{CALLBACK}}}", values.get(CALLBACK) or "") for word in words), *flags, *extra]
        texts = {name: value for name in (*ARGUMENTS, CALLBACK) if (value := values.get(name)) is not None}
        if "model" in texts:
            texts["model_dir"] = str(Path(texts["model"]).parent)
        result: list[str] = []
        for word in words:
            filled = word
            missing = [name for name in _PLACEHOLDERS if f"{{{name}}}" in word and name not in texts]
            if missing:
                if word == f"{{{missing[0]}}}" and result and result[-1].startswith("-"):
                    result.pop()
                continue
            for name, text in texts.items():
                filled = filled.replace(f"{{{name}}}", text)
            result.append(filled)
        return [*result, *extra]

    def _called_back(
        self, values: Mapping[str, str | None], extra: Sequence[str]
    ) -> tuple[Sequence[str], Mapping[str, str | None], Sequence[str]]:
        """Words, values and extra arguments with one callback URL at most, that of `extra` where it has one."""
        words = self.words
        if _OPTION not in extra[:-1]:
            return words, values, extra
        at = list(extra).index(_OPTION)
        if self.calls_back:
            return words, {**values, CALLBACK: extra[at + 1]}, [*extra[:at], *extra[at + 2 :]]
        if _OPTION in words[:-1]:
            own = words.index(_OPTION)
            words = (*words[:own], *words[own + 2 :])
        return words, values, extra


def parse_command(line: str) -> Command:
    """Split a command line as a shell would, without running one. Raises CommandError."""
    try:
        words = tuple(shlex.split(line))
    except ValueError as error:
        raise CommandError(f"--worker-command {line!r}: {error}") from error
    if not words:
        raise CommandError("--worker-command is empty; give the command that starts the worker")
    if shutil.which(words[0]) is None:
        raise CommandError(f"--worker-command: there is no program {words[0]!r}; check the path, or its execute bit")
    return Command(words)


def bundled_command() -> Command:
    """The worker of this repository, on the CUDA device where there is one and on the CPU elsewhere."""
    device = "cuda" if nvidia_device() is not None else "cpu"
    return Command((sys.executable, "-P", "-m", "m0_worker", "--device", device), bundled=True)
