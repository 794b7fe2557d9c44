"""The command line (M0-W-1100, M0-W-1101): every argument is checked before anything is loaded."""

from __future__ import annotations

import argparse
import errno
import os
import socket
import stat
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_TOKENS = 2048  # M0-W-1300: the largest max_tokens there is


class UsageError(Exception):
    """The command line cannot be obeyed; the message names the argument."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process was started with; fixed for its life (M0-W-1001)."""

    worker_id: str
    model: Path
    gpu_device: int
    port: int
    host: str = "127.0.0.1"
    callback_url: str | None = None
    max_tokens_in: int | None = None
    max_tokens_out: int = MAX_TOKENS
    inference_timeout_s: float = 300.0
    queue_depth: int = 8
    threads: int | None = None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _worker_id(text: str) -> str:
    try:
        if str(uuid.UUID(text)) == text.lower():
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no UUID such as 7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")

    return convert


def _seconds(text: str) -> float:
    try:
        if 0 < (value := float(text)) < 1e6:  # NaN fails it too
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("give an http:// or https:// address")


def parse(arguments: Sequence[str]) -> Settings:
    """Check the command line.

    Raises:
        UsageError: exit code 2; exit code 1 where the model cannot be read (M0-W-1210).
        SystemExit: for --help.
    """
    parser = _Parser(prog="m0-peer", allow_abbrev=False, description="M0 worker over llama.cpp, on a CPU.")
    add = parser.add_argument
    add("--worker-id", type=_worker_id, required=True, metavar="UUID", help="in every line of the log")
    add("--model", type=Path, required=True, metavar="PATH", help="absolute path of the .gguf file")
    add("--gpu-device", type=_whole(0, 0), required=True, metavar="0", help="there is one device, the CPU: 0")
    add("--port", type=_whole(1024, 65535), required=True, metavar="PORT", help="1024 to 65535")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)")
    add("--callback-url", type=_url, metavar="URL", help="POST a message here when ready")
    add("--max-tokens-in", type=_whole(1, 1 << 30), metavar="N", help="longest prompt in tokens")
    add("--max-tokens-out", type=_whole(1, MAX_TOKENS), default=MAX_TOKENS, metavar="N", help="largest max_tokens")
    add("--inference-timeout-sec", type=_seconds, default=300.0, metavar="S", dest="inference_timeout_s")
    add("--queue-depth", type=_whole(0, 1000), default=8, metavar="N", help="jobs that may wait (default: 8)")
    add("--threads", type=_whole(1, 256), metavar="N", help="threads that compute (default: by the model's size)")
    settings = Settings(**vars(parser.parse_args(arguments)))
    _check_model(settings.model)
    return settings


def _check_model(path: Path) -> None:
    if not path.is_absolute():
        raise UsageError(f"argument --model: {str(path)!r} is not absolute; give the whole path of a .gguf file")
    try:
        # Without O_NONBLOCK, opening a FIFO waits for somebody to write to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"argument --model: {str(path)!r} cannot be read: {reason}", exit_code=1) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UsageError(f"argument --model: {str(path)!r} is no regular file", exit_code=1)
    finally:
        os.close(descriptor)


def bind(settings: Settings) -> socket.socket:
    """Take the port, without listening: connections are refused until there is a model (M0-W-1110).

    Raises:
        UsageError: the port is taken, or the address is none of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"argument --host: {settings.host!r} cannot be resolved: {error}") from error
    taken = socket.socket(family, kind)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a restart waits a minute for old connections
    try:
        taken.bind(address)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"argument --port: {settings.port} is in use; choose a free port") from error
        raise UsageError(f"argument --host: {settings.host!r} cannot be bound: {error.strerror}") from error
    taken.setblocking(False)
    return taken
