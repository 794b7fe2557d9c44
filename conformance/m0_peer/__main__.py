"""`python -m m0_peer`, `m0-peer`: arguments and port first, heavy imports only for a start that has a chance."""

from __future__ import annotations

import os
import signal
import sys

from m0_peer.arguments import UsageError, bind, parse


def main(arguments: list[str] | None = None) -> int:
    """Run a worker. 0 after a shutdown, 1 after a failed start, 2 after a command line that cannot be obeyed."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os._exit(0))  # nothing to drain yet, and nothing may swallow it
    try:
        settings = parse(sys.argv[1:] if arguments is None else arguments)
        listener = bind(settings)
    except UsageError as error:
        sys.stderr.write(f"m0-peer: {error}\n")
        return error.exit_code
    from m0_peer.lifecycle import run  # noqa: PLC0415  # a refusal must not wait for NumPy and aiohttp

    return run(settings, listener)


if __name__ == "__main__":
    sys.exit(main())
