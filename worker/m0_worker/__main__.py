"""`python -m m0_worker`, `m0-worker`: check the command line, take the port, and only then load anything heavy."""

from __future__ import annotations

import os
import sys

from m0_worker.signals import Signals, interrupted


def main(arguments: list[str] | None = None) -> int:
    """Run a worker, or prepare for one.

    The exit code is 0 after a shutdown, 1 after a failed start-up or for want of a model file, 2 after a
    command line that cannot be obeyed.
    """
    signals = Signals()
    signals.install()
    _open_standard_descriptors()
    import gc  # noqa: PLC0415 - the signals first

    from m0_worker.cli import UsageError, bind, parse  # noqa: PLC0415 - the same

    words = sys.argv[1:] if arguments is None else arguments
    try:
        if "--prepare" in words:
            from m0_worker.preparing import main as prepare  # noqa: PLC0415 - a worker needs none of it

            signals.react = interrupted
            return prepare([word for word in words if word != "--prepare"])
        config = parse(words)
        listener = bind(config.host, config.port)
    except UsageError as error:
        from m0_worker.log_writer import say_error  # noqa: PLC0415 - only if there is something to say

        say_error(f"m0-worker: {error}\n")
        return error.exit_code
    gc.disable()  # until everything is loaded, which all stays: the collector would look at it again and again
    from m0_worker.lifecycle import run  # noqa: PLC0415 - a refusal must not wait for NumPy

    return run(config, listener, signals)


def _open_standard_descriptors() -> None:
    """Give 0, 1 and 2 to nobody else: a socket that got one of them would be written to as if it were the log."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free one


if __name__ == "__main__":
    sys.exit(main())
