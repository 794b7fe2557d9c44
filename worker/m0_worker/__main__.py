"""`python -m m0_worker`, `m0-worker`: check the command line, take the port, and only then load anything heavy."""

from __future__ import annotations

import gc
import signal
import sys

from m0_worker.cli import UsageError, bind, parse


def main(arguments: list[str] | None = None) -> int:
    """Run a worker.

    The exit code is 0 after a shutdown, 1 after a failed start-up or for want of a model file, 2 after a
    command line that cannot be obeyed.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # until there is something to shut down
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if "--prepare" in words:
            from m0_worker.preparing import main as prepare  # noqa: PLC0415 - a worker needs none of it

            return prepare([word for word in words if word != "--prepare"])
        config = parse(words)
        listener = bind(config.host, config.port)
    except UsageError as error:
        sys.stderr.write(f"m0-worker: {error}\n")
        return error.exit_code
    gc.disable()  # until everything is loaded, which all stays: the collector would look at it again and again
    from m0_worker.lifecycle import run  # noqa: PLC0415 - a refusal must not wait for NumPy

    return run(config, listener)


if __name__ == "__main__":
    sys.exit(main())
