"""What the two distributions hold, ask for and install."""

from __future__ import annotations

import email
import re
import signal
import socket
import subprocess
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import m0_worker
import pytest
from installing import ROOT, build
from m0_models import probes

if TYPE_CHECKING:
    from email.message import Message

    from installing import Installed

WORKER_ID = "7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90"
FOLDERS = {
    "m0_worker": "worker/m0_worker",
    "m0_conformance": "conformance/m0_conformance",
    "m0_peer": "conformance/m0_peer",
    "m0_parity": "parity/m0_parity",
    "m0_models": "models/m0_models",
}
PACKAGES = set(FOLDERS)


def members(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def metadata(wheel: Path) -> Message:
    return email.message_from_bytes(next(data for name, data in members(wheel).items() if name.endswith("/METADATA")))


def packages(wheel: Path) -> set[str]:
    return {name.split("/")[0] for name in members(wheel) if ".dist-info/" not in name}


def requirements(project: Path) -> set[str]:
    return set(tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"])


def test_each_distribution_holds_its_packages_typed_and_nothing_else(suite_wheel: Path, worker_wheel: Path) -> None:
    assert packages(suite_wheel) == PACKAGES
    assert packages(worker_wheel) == {"m0_worker"}
    assert {f"{name}/py.typed" for name in PACKAGES} <= members(suite_wheel).keys()
    assert "m0_worker/py.typed" in members(worker_wheel)


def test_both_hold_the_same_worker(suite_wheel: Path, worker_wheel: Path) -> None:
    worker = {name: data for name, data in members(worker_wheel).items() if name.startswith("m0_worker/")}
    assert worker
    assert worker == {name: data for name, data in members(suite_wheel).items() if name.startswith("m0_worker/")}


def test_every_tracked_file_of_a_package_is_in_the_wheel(suite_wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", *FOLDERS.values()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert listed
    assert {name.split("/", 1)[1] for name in listed} <= members(suite_wheel).keys()


def test_the_version_comes_from_one_place(suite_wheel: Path, worker_wheel: Path, suite: Installed) -> None:
    version = m0_worker.__version__
    assert metadata(suite_wheel)["Version"] == metadata(worker_wheel)["Version"] == version
    for project in (ROOT, ROOT / "worker"):
        text = (project / "pyproject.toml").read_text()
        assert not re.search(r"^version\s*=", text, re.MULTILINE)
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    del suite


def test_an_unpacked_archive_reports_its_version(suite: Installed, tmp_path: Path) -> None:
    archive = build(ROOT, "sdist", tmp_path)
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (tree,) = (path for path in tmp_path.iterdir() if path.is_dir())
    path = ":".join(str(tree / room) for room in ("worker", "conformance", "parity", "models"))
    program = (
        "import importlib.metadata as m\n"
        "def gone(name): raise m.PackageNotFoundError(name)\n"
        "from m0_conformance.run import session as run\n"
        "run.version = gone\n"
        "print(run.__file__, run.suite_version())\n"
    )
    done = suite.run("python", "-c", program, cwd=tmp_path, env={"PYTHONPATH": path})
    where, version = done.stdout.split()
    assert Path(where).is_relative_to(tree)
    assert version == m0_worker.__version__


@pytest.mark.parametrize("kind", ["suite", "worker"])
def test_metadata_is_complete(kind: str, suite_wheel: Path, worker_wheel: Path) -> None:
    data = metadata(suite_wheel if kind == "suite" else worker_wheel)
    assert data["License-Expression"] == "Apache-2.0"
    assert data["License-File"] == "LICENSE"
    assert data["Requires-Python"] == ">=3.11"
    assert data["Description-Content-Type"] == "text/markdown"
    assert len(data.get_all("Classifier", [])) > 5
    assert (ROOT / "worker/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_worker_asks_for_what_the_suite_asks_for_and_not_for_pytest() -> None:
    worker, suite = requirements(ROOT / "worker"), requirements(ROOT)
    assert worker < suite
    assert {re.split(r"[><=;\[]", entry)[0] for entry in suite - worker} >= {"pytest", "hypothesis", "jinja2"}


def test_all_console_scripts_are_there(suite: Installed, worker: Installed, tmp_path: Path) -> None:
    scripts = {"m0-worker", "m0-conformance", "m0-peer", "m0-parity", "m0-models"}
    assert {path.name for path in (suite.folder / "bin").glob("m0-*")} == scripts
    assert {path.name for path in (worker.folder / "bin").glob("m0-*")} == {"m0-worker"}
    for script in scripts:
        done = suite.run(script, "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"usage: {script} ")


def test_the_worker_by_itself_serves_and_has_no_pytest(worker: Installed, tmp_path: Path) -> None:
    found = worker.run("python", "-c", "import importlib.util as u; print(u.find_spec('pytest'))", cwd=tmp_path)
    assert found.stdout == "None\n"
    model = tmp_path / "probe.gguf"
    probes.catalogue()["script"].write(model)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--worker-id", WORKER_ID, "--model", model, "--gpu-device", "0", "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen(
        [worker.folder / "bin/m0-worker", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        body = b""
        job = {"job_id": "1", "prompt": "*", "max_tokens": 2}
        deadline = time.monotonic() + 20
        while not body and time.monotonic() < deadline and process.poll() is None:
            try:
                body = httpx2.post(f"http://127.0.0.1:{port}/execute", json=job, timeout=10).content
            except httpx2.ConnectError:
                time.sleep(0.05)
        assert b"event: end" in body
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
