from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from m0_conformance.recording.client import Clock
from m0_conformance.targets import (
    Command,
    CommandError,
    UrlError,
    WorkerProcess,
    bundled_command,
    free_port,
    parse_command,
    parse_url,
)

ROOT = Path(__file__).parents[3]
VALUES = {"worker_id": "id", "model": "/m/a.gguf", "gpu_device": "0", "port": "8000"}


@pytest.mark.parametrize(
    ("url", "address"), [("http://h:1", ("h", 1)), ("http://h/", ("h", 80)), ("http://[::1]:9", ("::1", 9))]
)
def test_urls(url: str, address: tuple[str, int]) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize("url", ["https://h:1", "h:1", "http://h:99999", "http://h:1/prefix", "ftp://h", "http://"])
def test_bad_urls_get_a_sentence(url: str) -> None:
    with pytest.raises(UrlError, match="--worker-url"):
        parse_url(url)


def test_arguments_are_appended_or_filled_in() -> None:
    assert Command(("w",)).argv(VALUES, ["--x"]) == [
        *("w", "--worker-id", "id", "--model", "/m/a.gguf", "--gpu-device", "0", "--port", "8000", "--x"),
    ]
    template = Command(("run", "-v", "{model_dir}:/m", "-p", "{port}:{port}", "img", "--model", "{model}"))
    assert template.argv(VALUES) == ["run", "-v", "/m:/m", "-p", "8000:8000", "img", "--model", "/m/a.gguf"]


def test_an_argument_can_be_left_out() -> None:
    assert "--port" not in Command(("w",)).argv({**VALUES, "port": None})
    template = Command(("w", "--port", "{port}", "--model", "{model}"))
    assert template.argv({**VALUES, "port": None}) == ["w", "--model", "/m/a.gguf"]
    assert template.can_omit("port")
    assert not Command(("w", "{port}")).can_omit("port")


@pytest.mark.parametrize("line", ["", "no-such-program-anywhere --x", "'unclosed"])
def test_unusable_commands(line: str) -> None:
    with pytest.raises(CommandError):
        parse_command(line)


def test_the_bundled_command_names_this_interpreter() -> None:
    assert bundled_command().words[:4] == (sys.executable, "-P", "-m", "m0_worker")


def test_ports_are_free_and_never_given_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "worker.py"
    path.write_text(text)
    return [sys.executable, "-u", str(path)]


def test_lines_exit_code_and_signals_are_recorded(tmp_path: Path) -> None:
    argv = script(
        tmp_path,
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(7)))\n"
        "sys.stderr.write('to stderr\\n'); sys.stdout.buffer.write(b'caf\\xc3\\xa9 \\xff\\n')\n"
        "print('up'); time.sleep(30)\n",
    )

    async def run() -> None:
        worker = await WorkerProcess.start(argv, label="w", port=free_port())
        assert await worker.line("up", 5.0)
        worker.send_signal("SIGTERM")
        assert await worker.exited(5.0) == 7
        await worker.stop()
        launch = worker.snapshot(Clock())
        assert {(line.stream, line.text) for line in launch.lines} == {
            *(("stderr", "to stderr"), ("stdout", "café \\xff"), ("stdout", "up"), ("stdout", "bye")),
        }
        assert [name for name, _ in launch.signals] == ["SIGTERM"]
        assert launch.exited_at is not None

    asyncio.run(run())


def test_a_stubborn_worker_and_its_children_are_killed(tmp_path: Path) -> None:
    argv = script(
        tmp_path,
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', "
        "'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)'])\n"
        "print('child', child.pid); time.sleep(60)\n",
    )

    async def run() -> int:
        worker = await WorkerProcess.start(argv, label="w", port=free_port())
        assert await worker.line("child", 5.0)
        pid = int(next(line.text for line in worker.lines if line.text.startswith("child")).split()[1])
        await worker.stop(grace=0.2)
        assert worker.launch.exit_code == -signal.SIGKILL
        return pid

    gone(asyncio.run(run()))


def gone(pid: int) -> None:
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} is still there")


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is a Linux call")
def test_a_worker_does_not_outlive_a_killed_harness(tmp_path: Path) -> None:
    harness = tmp_path / "harness.py"
    harness.write_text(
        "import asyncio, sys\n"
        "from m0_conformance.targets import WorkerProcess\n"
        "async def main():\n"
        "    w = await WorkerProcess.start([sys.executable, '-c', 'import time; time.sleep(60)'], label='w', port=1)\n"
        "    print(w.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, str(harness)], stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    gone(pid)
