"""The command line of M0-W-1100 and M0-W-1101: every value is checked here, before anything heavy is imported.

A refusal is one line that names the argument, the value and the cure.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from m0_worker.config import MAX_TOKENS_LIMIT, MIB, WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")


class UsageError(Exception):
    """A command line that cannot be obeyed; its text is the one line the user reads.

    `exit_code` is 2, and 1 where the model file is at fault, for which M0-W-1210 names the code.
    """

    def __init__(self, line: str, *, exit_code: int = 2) -> None:
        super().__init__(line)
        self.exit_code = exit_code


def without_credentials(text: str) -> str:
    """A string whose URLs have lost user, password and the values of their queries."""
    text = re.sub(r"//[^/?#\s]*@", "//***@", text)
    return re.sub(r"([?&;][^=&;#\s]*=)[^&;#\s]*", r"\1***", text)


def _refuse(argument: str, value: object, cure: str) -> NoReturn:
    if argument == "--callback-url":
        value = without_credentials(str(value))
    raise UsageError(f"{argument} {value!r}: {cure}", exit_code=1 if argument == "--model" else 2)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = without_credentials(message)
        raise UsageError(f"{message} (--help shows every argument)")


def _uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        _refuse("--worker-id", text, "not a UUID; give one such as 7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90")
    return text.lower()


def _model(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        _refuse("--model", text, "is a directory; give the path of a .gguf file")
    if not path.exists():
        _refuse("--model", text, "no such file; give the path of a .gguf file")
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        _refuse("--model", text, f"cannot be read ({error.strerror}); make it a file this user may read")
    return path


def _integer(argument: str, low: int, high: int | None, cure: str = "") -> Callable[[str], int]:
    span = f"from {low} to {high}" if high is not None else f"of at least {low}"

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= int(text) <= (high if high is not None else 2**62):
            _refuse(argument, text, f"give an integer {span}{cure}")
        return int(text)

    return parse


def _seconds(argument: str, low: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not low <= value <= 1e9:  # NaN fails as well
            _refuse(argument, text, f"give a number of seconds of at least {low:g}")
        return value

    return parse


def _url(text: str) -> str:
    try:
        url = urlsplit(text)
        valid = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is no number
        valid = False
    if not valid or re.search(r"[\x00-\x20\x7f]", text):
        _refuse("--callback-url", text, "give an absolute URL such as http://127.0.0.1:8080/workers/ready")
    return text


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z._:-]{1,253}", text):
        _refuse("--allowed-host", text, "give a host name or an address, without a port")
    return text.lower()


def _choice(argument: str, *choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            _refuse(argument, text, f"choose one of {', '.join(choices)}")
        return text

    return parse


def _parser() -> _Parser:
    parser = _Parser(
        prog="m0-worker",
        description="Serve one GGUF model over HTTP and SSE: POST /execute, GET /health, POST /cancel, "
        "POST /shutdown, GET /metrics.",
        epilog="m0-worker --prepare MODEL... compiles the kernels of a first start ahead (--prepare --help).",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--worker-id", type=_uuid, required=True, metavar="UUID", help="identity of this worker in logs and callback")
    add("--model", type=_model, required=True, metavar="PATH", help="the .gguf file to serve")
    add("--gpu-device", type=_integer("--gpu-device", 0, None), required=True, metavar="N", help="index of the device")
    add(
        "--port",
        type=_integer("--port", 1024, 65535),
        required=True,
        metavar="PORT",
        help="TCP port to listen on, 1024 to 65535",
    )
    add("--callback-url", type=_url, metavar="URL", help="POST a readiness message here once the socket listens")
    add(
        "--max-tokens-in",
        type=_integer("--max-tokens-in", 1, None),
        metavar="N",
        help="longest prompt in tokens (default: the model's context length)",
    )
    add(
        "--max-tokens-out",
        type=_integer("--max-tokens-out", 1, MAX_TOKENS_LIMIT),
        default=MAX_TOKENS_LIMIT,
        metavar="N",
        help="largest max_tokens of a request (default: %(default)s)",
    )
    add(
        "--inference-timeout-sec",
        type=_seconds("--inference-timeout-sec", 0.001),
        default=300.0,
        metavar="S",
        help="a longer job ends with INFERENCE_TIMEOUT (default: 300)",
    )
    add(
        "--kv-cache-size-mb",
        type=_integer("--kv-cache-size-mb", 1, 1 << 30),
        metavar="MIB",
        help="largest KV cache of one job; a job that needs more ends with VRAM_OOM (default: what is free)",
    )
    add("--device", type=_choice("--device", "cuda", "cpu"), metavar="cuda|cpu", help="default: cuda if there is one")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)")
    add(
        "--allowed-host",
        type=_host_name,
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which the worker may be called, beside loopback names; may be given again (SECURITY.md)",
    )
    add(
        "--queue-depth",
        type=_integer("--queue-depth", 0, 10_000),
        default=8,
        metavar="N",
        help="jobs that may wait behind the running one (default: %(default)s)",
    )
    add(
        "--kv-cache-type",
        type=_choice("--kv-cache-type", "f16", "f32"),
        default="f16",
        metavar="f16|f32",
        help="element type of the KV cache (default: %(default)s)",
    )
    add(
        "--vram-limit-mb",
        type=_integer("--vram-limit-mb", 1, 1 << 30),
        metavar="MIB",
        help="device memory this worker may use in all (default: what is free)",
    )
    add(
        "--residency-interval-sec",
        type=_seconds("--residency-interval-sec", 0.01),
        default=60.0,
        metavar="S",
        help="time between two residency checks (default: 60)",
    )
    return parser


def cuda_device_count() -> int:
    """CUDA devices this process may use, asked of the driver itself: no CuPy import, so a refusal takes no second."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _device(asked: str | None, index: int) -> str:
    """The device to use; `asked` None means CUDA where CuPy and a device are, else the CPU."""
    if asked != "cpu":
        has_cupy = find_spec("cupy") is not None
        count = cuda_device_count() if has_cupy else 0
        if asked == "cuda" and not has_cupy:
            _refuse("--device", "cuda", "CuPy is not installed; install the [cuda] extra or choose --device cpu")
        if asked == "cuda" and count == 0:
            _refuse("--device", "cuda", "the driver offers no CUDA device; choose --device cpu")
        if count:
            if index >= count:
                _refuse("--gpu-device", index, f"this machine has {count} CUDA device(s); give 0 to {count - 1}")
            return "cuda"
    if index != 0:
        _refuse("--gpu-device", index, "the CPU device has index 0 only; give 0")
    return "cpu"


def parse(arguments: Sequence[str]) -> WorkerConfig:
    """Turn the command line into a checked configuration.

    Raises:
        UsageError: an argument is missing, unknown or has an unusable value.
        SystemExit: for --help, with status 0.
    """
    given = _parser().parse_args(arguments)
    mib = given.kv_cache_size_mb
    limit = given.vram_limit_mb
    return WorkerConfig(
        worker_id=given.worker_id,
        model=given.model,
        device=_device(given.device, given.gpu_device),
        gpu_device=given.gpu_device,
        host=given.host,
        port=given.port,
        allowed_hosts=tuple(given.allowed_host),
        callback_url=given.callback_url,
        max_tokens_in=given.max_tokens_in,
        max_tokens_out=given.max_tokens_out,
        inference_timeout_s=given.inference_timeout_sec,
        kv_cache_bytes=None if mib is None else mib * MIB,
        kv_cache_type=given.kv_cache_type,
        memory_limit_bytes=None if limit is None else limit * MIB,
        queue_depth=given.queue_depth,
        residency_interval_s=given.residency_interval_sec,
    )


def bind(host: str, port: int) -> socket.socket:
    """Take the port for good, without listening yet: connections are refused until the model is loaded (M0-W-1110).

    Raises:
        UsageError: the address cannot be resolved or the port is taken, be it by a worker that still loads.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        _refuse("--host", host, "cannot be resolved; give an address of this machine such as 127.0.0.1 or 0.0.0.0")
    taken = socket.socket(family, kind, protocol)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(address)
        # SO_REUSEADDR, without which a port stays taken for a minute after its worker ended, lets two sockets have one
        # port until one of them listens. So listen, which only one can, and stop: without SO_REUSEADDR the port is
        # then kept from all others.
        taken.listen(1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        taken.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        taken.close()
        if error.errno in {98, 48}:  # EADDRINUSE on Linux and macOS
            _refuse("--port", port, "already in use; choose a free port or stop the process that holds it")
        _refuse("--host", host, f"cannot be bound ({os.strerror(error.errno or 0)}); give an address of this machine")
    taken.setblocking(False)
    return taken
