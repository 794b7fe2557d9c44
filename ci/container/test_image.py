"""The image does what it is for: judges and serves, as any user, on a root file system that cannot be written."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from m0_models import probes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Image
    from engines import Container

WORKER_ID = "7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90"
FOREIGN = Path(__file__).parents[2] / "tests/conformance/run/fake_m0.py"
MIB = 1 << 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    folder.chmod(0o755)
    path = folder / "probe.gguf"
    probes.catalogue()["script"].write(path)
    path.chmod(0o644)
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def serving(image: Image, model: Path) -> Iterator[tuple[Container, str]]:
    """A container with a worker, its address once it is ready."""
    port = free_port()
    words = ["--worker-id", WORKER_ID, "--model", "/models/probe.gguf", "--gpu-device", "0", "--device", "cpu"]
    container = image.start("worker", *words, "--port", str(port), binds=((model.parent, "/models", False),))
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and container.process.poll() is None:
        try:
            if httpx2.get(f"{url}/health").status_code == 200:
                break
        except httpx2.TransportError:
            time.sleep(0.05)
    try:
        yield container, url
    finally:
        container.end()


def test_only_what_runs_is_in_it(image: Image) -> None:
    code, text = image.run(
        "-c", "for p in gcc cc c++ nvcc ptxas ld; do command -v $p; done; id -u", entrypoint="/bin/sh"
    )
    assert code == 0
    assert text == "1000\n"
    code, text = image.run("-sb", "/opt/m0", entrypoint="du")
    assert int(text.split()[0]) < (900 if image.cuda else 250) * MIB


def test_kernels_lie_in_it(image: Image) -> None:
    if not image.cuda:
        pytest.skip("an image without CUDA libraries")
    program = (
        "from m0_worker.devices.cuda.compiler import PREPARED; print(len([p.read_bytes() for p in PREPARED.iterdir()]))"
    )
    code, text = image.run("-P", "-c", program, entrypoint="/opt/m0/bin/python")
    assert code == 0, text
    assert int(text) >= 20


def test_the_root_is_read_only_and_the_program_process_1(image: Image) -> None:
    code, text = image.run("-c", "touch /opt/m0/x; touch /home/judge/x; touch /tmp/x && echo $$", entrypoint="/bin/sh")
    assert code == 0
    assert text.count("Read-only file system") == 2
    assert text.split()[-1] == "1"


def test_main_job(image: Image, reports: Path) -> None:
    code, text = image.run(timeout=300, binds=((reports, "/reports", True),))
    assert code == 0, text
    assert "CONFORMANT in m0-process; m0 needs an NVIDIA device" in text
    assert json.loads((reports / "report.json").read_text())["verdict"] == "CONFORMANT"
    assert {path.stat().st_uid for path in reports.iterdir()} == {1000}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--requirement", "M0-W-1312*"], 3),
        (["--requirement", "M0-W-1312*", "--allow-partial"], 0),
        (["--no-such-option"], 2),
        (["--worker-command", "python3 /theirs/worker.py --sin index-gap", "--requirement", "M0-W-1312*"], 1),
        (["--worker-command", "no-such-program"], 2),
    ],
    ids=["partial", "partial-allowed", "usage", "a-foreign-worker-deviates", "no-program"],
)
def test_exit_codes_and_owner_as_another_user(
    image: Image, reports: Path, words: list[str], expected: int, tmp_path: Path
) -> None:
    theirs = tmp_path / "worker.py"
    theirs.write_bytes(FOREIGN.read_bytes())
    theirs.chmod(0o644)
    binds = ((reports, "/reports", True), (theirs, "/theirs/worker.py", False))
    code, text = image.run("run", "--report-dir", "/reports", *words, user="12345:12345", binds=binds, timeout=120)
    assert code == expected, text
    made = list(reports.iterdir())
    assert bool(made) == (expected != 2)
    assert {path.stat().st_uid for path in made} <= {12345}


def test_a_worker_inside_is_judged_from_outside(serving: tuple[Container, str], tmp_path: Path) -> None:
    container, url = serving
    # A known model's text does not vary with the seed, which leaves one clause undecided.
    words = ["run", "--worker-url", url, "--report-dir", str(tmp_path / "r"), "--allow-partial"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "m0_conformance", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout
    report = json.loads((tmp_path / "r/report.json").read_text())
    assert report["profile"] == "m0-wire"
    assert container.process.poll() is None


def test_the_health_check_asks_the_worker(image: Image, serving: tuple[Container, str]) -> None:
    container, _ = serving
    check = image.engine.configuration(image.tag)["Healthcheck"]
    assert isinstance(check, dict)
    words = [str(word) for word in check["Test"]]
    assert words[0] == "CMD"
    assert container.execute(*words[1:]) == 0
    container.signal("STOP")  # it lives, and answers nobody
    assert container.execute(*words[1:]) == 1
    container.signal("CONT")


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_signal_reaches_the_worker(serving: tuple[Container, str], name: str) -> None:
    container, url = serving
    assert httpx2.get(f"{url}/health").status_code == 200
    container.signal(name)
    assert container.process.wait(10) == 0
    assert '"complete"' in container.end()


def test_a_signal_ends_a_run_with_its_report(image: Image, reports: Path) -> None:
    container = image.start(binds=((reports, "/reports", True),))
    deadline = time.monotonic() + 30
    while not list(reports.glob("*.ndjson")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3)
    container.signal("TERM")
    try:
        container.process.wait(60)
    finally:
        text = container.end()
    assert container.process.returncode == 3, text
    assert json.loads((reports / "report.json").read_text())["run"]["options"]["interrupted"] is True
