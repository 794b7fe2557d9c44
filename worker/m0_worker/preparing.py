"""`m0-worker --prepare`: compile what a first start would compile, on a machine that needs no device."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from m0_worker.cli import UsageError
from m0_worker.errors import WorkerError
from m0_worker.gguf import GgufError

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"--prepare: {message}")


def main(arguments: Sequence[str]) -> int:
    """Compile for a device and some models; the arguments are those of the command line without `--prepare`.

    The exit code is 0, or 1 where something does not compile or a file is no model.

    Raises:
        UsageError: a command line that cannot be obeyed.
    """
    parser = _Parser(
        prog="m0-worker --prepare",
        description="Compile the kernels that models need, so that no start has to. The device itself is not needed; "
        "the machine code goes to $XDG_CACHE_HOME/m0-worker/kernels (default: ~/.cache).",
        allow_abbrev=False,
    )
    has_cupy = find_spec("cupy") is not None
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda" if has_cupy else "cpu",
        help="what runs them (default: cuda where CuPy is); cpu: all that large models need, for this processor",
    )
    parser.add_argument("--sm", type=int, default=90, metavar="N", help="compute capability (default: 90, for 9.0)")
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help="a .gguf file; cuda needs at least one")
    given = parser.parse_args(arguments)
    if given.device == "cpu":
        from m0_worker.devices.cpu import library  # noqa: PLC0415 - loads NumPy

        return library.prepare()
    if not given.models:
        raise UsageError("--prepare: give the .gguf files whose kernels are to be compiled")
    if not has_cupy:
        raise UsageError("--prepare: CuPy is not installed; install the [cuda] extra")
    from m0_worker.adapters import ModelError  # noqa: PLC0415 - a refusal must not wait for NumPy
    from m0_worker.devices.cuda.ahead import prepare  # noqa: PLC0415 - loads CuPy

    try:
        n = prepare(given.models, given.sm)
    except ValueError as error:
        raise UsageError(f"--prepare: {error}") from error
    except (WorkerError, ModelError, GgufError, OSError) as error:
        sys.stderr.write(f"m0-worker: --prepare: {error}\n")
        return 1
    sys.stdout.write(f"{n} sets of kernels for compute capability {given.sm / 10}\n")
    return 0
