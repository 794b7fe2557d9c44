"""The command line and the way up: refusals, failures, and the order of what is narrated."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from m0_models import probes
from m0_worker.cli import UsageError, bind, parse
from worker_process import ROOT, WORKER_ID, command, free_port

if TYPE_CHECKING:
    from m0_models.probes import Probe


@pytest.fixture
def good(script: Probe) -> dict[str, str]:
    return {"--worker-id": WORKER_ID, "--model": str(script.path), "--gpu-device": "0", "--port": "18000"}


def line_of(arguments: dict[str, str]) -> str:
    with pytest.raises(UsageError) as raised:
        parse([part for pair in arguments.items() for part in pair])
    line = str(raised.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("--worker-id", ["", "abc", "{7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90}", "7f2c1b1e5d0a4c559a530d6f1f1c2a90"]),
        ("--model", ["", "/nowhere/at/all.gguf", "/"]),
        ("--gpu-device", ["", "-1", "1", "99", "0x0", "first"]),
        ("--port", ["", "0", "80", "1023", "65536", "-5", "8080.0", "http", "9" * 30]),
        (
            "--callback-url",
            ["", "localhost", "ftp://x/", "http://", "http://x:port/", "http://x/a b", "http://x:99999/"],
        ),
        ("--max-tokens-in", ["0", "-1", "x"]),
        ("--max-tokens-out", ["0", "2049", "x"]),
        ("--inference-timeout-sec", ["0", "-1", "nan", "inf", "x"]),
        ("--kv-cache-size-mb", ["0", "x"]),
        ("--vram-limit-mb", ["0", "x"]),
        ("--kv-cache-type", ["f8", ""]),
        ("--queue-depth", ["-1", "x"]),
        ("--residency-interval-sec", ["0", "x"]),
        ("--device", ["gpu", ""]),
    ],
)
def test_a_bad_value_is_refused_by_name_value_and_cure(good: dict[str, str], argument: str, values: list[str]) -> None:
    for value in values:
        line = line_of(good | {"--device": "cpu"} | {argument: value})
        assert line.startswith(f"{argument} ")
        assert repr(value)[1:-1] in line or repr(int(value))
        assert any(cure in line for cure in ("give", "choose"))


@pytest.mark.parametrize("argument", ["--worker-id", "--model", "--gpu-device", "--port"])
def test_a_missing_argument_is_named(good: dict[str, str], argument: str) -> None:
    del good[argument]
    assert argument in line_of(good)


def test_unknown_and_abbreviated_arguments_are_refused(good: dict[str, str]) -> None:
    assert "--nonsense" in line_of(good | {"--nonsense": "1"})
    assert "--max-tokens-i" in line_of(good | {"--max-tokens-i": "1"})


def test_defaults_and_paths(good: dict[str, str], script: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(script.path.parent)
    config = parse([part for pair in (good | {"--model": script.path.name}).items() for part in pair])
    assert config.model == script.path
    assert (config.host, config.callback_url, config.max_tokens_in) == ("127.0.0.1", None, None)
    assert (config.max_tokens_out, config.inference_timeout_s, config.kv_cache_bytes) == (2048, 300.0, None)


def test_an_unreadable_model(good: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(b"GGUF")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)  # as root, every file can be read
    assert "Permission denied" in line_of(good | {"--model": str(path)})


def test_a_bound_port_refuses_connections_until_it_is_listened_on() -> None:
    port = free_port()
    with bind("127.0.0.1", port), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_taken_port_and_a_foreign_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}: already in use"):
            bind("127.0.0.1", port)
        with pytest.raises(UsageError, match=f"--port {port}: already in use"):
            bind("0.0.0.0", port)
    with pytest.raises(UsageError, match="cannot be bound"):
        bind("192.0.2.1", free_port())
    with pytest.raises(UsageError, match="--host 'no such host'"):
        bind("no such host", free_port())


def run(arguments: list[str]) -> tuple[int, str, str, float]:
    before = time.perf_counter()
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr, time.perf_counter() - before


def test_a_refusal_is_one_line_and_quick(script: Probe) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for arguments in (command(script.path, 80), command(script.path, taken.getsockname()[1])):
            code, out, err, seconds = run(arguments)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert err.startswith("m0-worker: --port ")
            assert seconds < 1.5  # the process itself takes a tenth; the rest is for a busy machine


def test_a_missing_model_is_exit_1(tmp_path: Path) -> None:
    code, _, err, _ = run(command(tmp_path / "absent.gguf", free_port()))
    assert (code, err.count("\n")) == (1, 1)
    assert all(fact in err for fact in ("--model", "absent.gguf", "no such file"))


def test_a_refusal_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv[1:]=['--port','80']; from m0_worker.__main__ import main; assert main() == 2; "
    code += "assert not {'numpy', 'uvicorn', 'asyncio'} & set(sys.modules), sorted(sys.modules)"
    assert run([sys.executable, "-c", code])[0] == 0


def test_a_start_imports_only_what_it_needs() -> None:
    code = "import sys; import m0_worker.lifecycle, m0_worker.http.app, m0_worker.http.server; "
    code += "assert 'fastapi' in sys.modules; "
    code += "assert not {'httpx2', 'prometheus_client', 'jinja2'} & set(sys.modules), sorted(sys.modules)"
    assert run([sys.executable, "-c", code])[0] == 0


def test_a_start_takes_little_cpu(launch: Any) -> None:
    def spent() -> float:
        times = psutil.Process(launch().process.pid).cpu_times()
        return float(times.user + times.system)

    # A quiet machine needs 0.42 s and may need 0.5; neighbours make it dearer. Imports without bytecode double it.
    assert min(spent() for _ in range(5)) < 0.6


@pytest.mark.parametrize("package", ["fastapi", "starlette", "uvicorn", "anyio"])
def test_bytecode_was_compiled_at_install(package: str) -> None:
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    sources = list(Path(found.origin).parent.rglob("*.py"))
    assert len(sources) > 10
    # All of them, and no process imports all of them: nobody but the installer compiled these.
    missing = [source for source in sources if not Path(cache_from_source(str(source))).exists()]
    assert missing == [], "installed without bytecode: install with UV_COMPILE_BYTECODE=1, as `nox -s tests` does"


def test_help_names_every_argument() -> None:
    code, out, _, _ = run([sys.executable, "-P", "-m", "m0_worker", "--help"])
    assert code == 0
    assert all(name in out for name in ("--worker-id", "--kv-cache-size-mb", "--callback-url", "/execute"))


def test_events_come_in_order(launch: Any) -> None:
    worker = launch()
    names = [name for name in worker.names() if name != "model_load_progress"]
    assert names == ["startup", "model_load_start", "model_load_complete", "ready"]
    percents = [line["percent"] for line in worker.lines if line["event"] == "model_load_progress"]
    assert percents == [0, 25, 50, 75, 100]
    ready = worker.event("ready")
    assert ready["vram_bytes"] == worker.health()["vram_bytes_used"]
    assert "CPU" in worker.event("startup")["note"]


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "truncated|short|empty"), (b"GGML" + b"\0" * 60, "magic"), (b"GGUF\x02" + b"\0" * 60, "2")],
)
def test_a_damaged_file_is_exit_1_with_the_facts(launch: Any, tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    worker = launch(model=path, wait=False)
    assert worker.exit() == 1
    line = worker.errors
    assert line.count("\n") == 1
    assert line.startswith("m0-worker: MODEL_LOAD_FAILED: ")
    assert all(fact in line for fact in (str(path), "device cpu", "gpu-device 0"))
    assert any(part in line for part in word.split("|"))
    error = worker.event("error", code="MODEL_LOAD_FAILED")
    assert (error["level"], error["model_ref"], error["gpu_device"]) == ("ERROR", str(path), 0)
    assert "ready" not in worker.names()


def test_a_model_larger_than_the_memory_is_exit_1_with_bytes(launch: Any, tmp_path: Path) -> None:
    probe = probes.script(tmp_path / "f32.gguf", quant="F32")
    worker = launch("--vram-limit-mb", "1", model=probe.path, wait=False)
    assert worker.exit() == 1
    error = worker.event("error")
    assert error["code"] == "INSUFFICIENT_VRAM"
    assert error["bytes_needed"] > error["bytes_available"] == 1 << 20
    line = worker.errors
    assert all(fact in line for fact in ("INSUFFICIENT_VRAM", str(error["bytes_needed"]), "1048576", str(probe.path)))


@pytest.mark.parametrize(("number", "event"), [(signal.SIGTERM, "startup"), (signal.SIGINT, "model_load_start")])
def test_a_signal_while_loading_is_a_shutdown(launch: Any, tmp_path: Path, number: int, event: str) -> None:
    probe = probes.catalogue()["script-deep"].write(tmp_path / "deep.gguf")
    worker = launch(model=probe.path, wait=False)
    worker.event(event)
    assert worker.end(number) == 0
    assert worker.errors == ""
    assert worker.names()[-1] == "shutdown"


def test_all_interfaces_on_request(launch: Any) -> None:
    worker = launch("--host", "0.0.0.0")
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} | {"127.0.0.1"}
    for address in addresses:
        socket.create_connection((str(address), worker.port), timeout=5).close()
