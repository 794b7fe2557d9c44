"""`python -m m0_conformance.saboteur --defect NAME --worker CMD …`: a worker command that starts CMD and lies about it.

Everything after the two options is what a suite appends to a worker command (M0-W-1100). The real worker gets the same
arguments with a port of its own; the saboteur serves the public one. Arguments that no worker could start with go
through unchanged, so that the real worker refuses them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

from m0_conformance.recording import client
from m0_conformance.saboteur.catalogue import Truth, catalogue
from m0_conformance.saboteur.conditional import Conditional
from m0_conformance.saboteur.defect import Defect, Exit
from m0_conformance.saboteur.pairs import find_conditional
from m0_conformance.saboteur.personas import find
from m0_conformance.saboteur.proxy import LyingProxy
from m0_conformance.targets.host import free_port

POLL_S = 0.005


@dataclass(slots=True)
class RealWorkers:
    """The real workers and what is known of them."""

    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    pumps: list[asyncio.Task[None]] = field(default_factory=list)


def public_socket(argv: list[str]) -> socket.socket | None:
    """The public port, bound but not listening; None when the arguments hold no port that can be bound."""
    try:
        port = int(argv[argv.index("--port") + 1])
    except (ValueError, IndexError):
        return None
    if not 1024 <= port <= 65535:
        return None
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
    except OSError:
        found.close()
        return None
    return found


async def pump(defect: Defect, stream: str, reader: asyncio.StreamReader) -> None:
    """Pass the worker's lines on, as the defect tells them."""
    out = sys.stdout if stream == "stdout" else sys.stderr
    while line := await reader.readline():
        for text in defect.line(stream, line.decode("utf-8", "surrogateescape").rstrip("\r\n")):
            out.write(text + "\n")
        out.flush()


async def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def start(defect: Defect, argv: list[str], workers: RealWorkers) -> asyncio.subprocess.Process:
    """Start one real worker with its lines pumped."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    workers.processes.append(process)
    for name, reader in (("stdout", process.stdout), ("stderr", process.stderr)):
        if reader is not None:
            workers.pumps.append(asyncio.create_task(pump(defect, name, reader)))
    return process


async def perform(defect: Defect, command: list[str], argv: list[str]) -> int:
    """Start the worker, serve it with lies, and return the exit code to show."""
    workers = RealWorkers()
    public = public_socket(argv)
    if public is not None:
        await defect.bound(public)
    argv = await defect.arguments(list(argv))
    ports = [free_port() for _ in range(defect.workers)] if public is not None else []
    proxy = LyingProxy(defect, ports)
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        async def tell() -> None:
            if await defect.signal(number, proxy):
                for process in workers.processes:
                    with contextlib.suppress(ProcessLookupError):
                        process.send_signal(number)

        asyncio.ensure_future(tell())  # noqa: RUF006 - runs until the process ends

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await defect.before_start(proxy)
    lines: list[list[str]] = [argv] if public is None else [_with_port(argv, port) for port in ports]
    for line in lines:
        await start(defect, [*command, *line], workers)
    client.load()  # while the worker starts: a request of the defect's own comes in time or not at all
    first = workers.processes[0]
    server = None
    ready = False
    if public is not None:
        while first.returncode is None and not all([await accepts(port) for port in ports]):  # noqa: ASYNC110 - no event
            await asyncio.sleep(POLL_S)
        if first.returncode is None:
            await defect.ready(proxy)
            server = await asyncio.start_server(proxy.serve, sock=public)
            ready = True
    code = await first.wait()
    await asyncio.gather(*workers.pumps, return_exceptions=True)
    for text in defect.lines_at_exit():
        sys.stdout.write(text + "\n")
    sys.stdout.flush()
    shown = await defect.exit_code(code, ready=ready)
    if server is not None:
        server.close()
    for process in workers.processes[1:]:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return shown


def _with_port(argv: list[str], port: int) -> list[str]:
    changed = list(argv)
    changed[changed.index("--port") + 1] = str(port)
    return changed


@dataclass(slots=True)
class Tally:
    """Writes down what a conditional defect did, each thing once a process."""

    path: Path
    said: set[str] = field(default_factory=set)

    def __call__(self, what: str) -> None:
        """Note it, if that is news."""
        if what not in self.said:
            self.said.add(what)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(what + "\n")


def main() -> int:
    """Entry point; the exit code is the worker's, or what the defect makes of it."""
    parser = argparse.ArgumentParser(prog="python -m m0_conformance.saboteur", allow_abbrev=False)
    parser.add_argument("--defect", default="truth", help="a defect or an oddity; `truth` lies about nothing")
    parser.add_argument("--worker", required=True, help="command of the real worker")
    parser.add_argument(
        "--tally", type=Path, help="a conditional defect notes here that it was asked, and that it lied"
    )
    options, arguments = parser.parse_known_args()
    try:
        kind = find_conditional(options.defect) or find(options.defect)
    except KeyError as error:
        parser.error(str(error.args[0]))
    if kind is None:
        parser.error(f"no defect {options.defect!r}; known: {', '.join(sorted(catalogue()))}")
    defect = kind()
    if options.tally is not None and isinstance(defect, Conditional):
        defect.tally = Tally(options.tally)
    command = shlex.split(options.worker)
    try:
        if kind.hooks() == {"arguments"}:
            arguments = asyncio.run(defect.arguments(arguments))
            if not getattr(defect, "keeps_file", False):
                os.execvp(command[0], [*command, *arguments])  # noqa: S606 - nothing else is a lie: the worker in our place
            kind, defect = Truth, Truth()
        code = asyncio.run(perform(defect, command, arguments))
    except Exit as wish:
        for line in wish.lines:
            sys.stderr.write(line + "\n")
        code = wish.code
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:  # the worker was killed by a signal: die of the same
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
