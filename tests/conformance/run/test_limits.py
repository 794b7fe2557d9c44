"""A run costs no more than its limits, touches no file that is not its own, and leaves no process behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from m0_conformance.recording.belongings import InTheWayError
from m0_conformance.recording.store import RunStore
from m0_conformance.run.limits import DISK_BYTES, Limits, deadline_s
from m0_conformance.targets import free_port
from m0_conformance.targets.process import MAX_KEPT_BYTES, WorkerProcess
from m0_conformance.targets.url import UrlError, parse_url

STUCK = Path(__file__).parents[2] / "hostile" / "hostile_worker.py"
SUITE = (sys.executable, "-P", "-m", "m0_conformance", "run")


def suite(*words: str, folder: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SUITE, "--report-dir", str(folder), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=folder.parent,
    )


def command(kind: str) -> str:
    return shlex.join([sys.executable, "-P", str(STUCK), kind])


def test_the_users_files_stay(tmp_path: Path) -> None:
    own = tmp_path / "transcripts" / "interview.txt"
    own.parent.mkdir()
    own.write_text("mine")
    for _ in range(2):
        with RunStore(tmp_path) as store:
            store.line("header", suite="m0-conformance")
    assert own.read_text() == "mine"


@pytest.mark.parametrize("name", ["report.json", "report.html", "run.ndjson", "junit.xml", "transcripts", "repro"])
def test_what_is_in_the_way_is_named_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InTheWayError, match=name):
        RunStore(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "transcripts").symlink_to(elsewhere)
    with pytest.raises(InTheWayError, match="transcripts"):
        RunStore(tmp_path / "d")


def test_a_list_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    victim = tmp_path / "victim.json"
    victim.write_text("mine")
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / ".m0-conformance-files").write_text("../victim.json\ntranscripts/../../victim.json\n")
    RunStore(folder).close()
    assert victim.read_text() == "mine"


def test_a_typo_is_no_clean_run(tmp_path: Path) -> None:
    run = suite("--requirement", "M0-W-13l1", folder=tmp_path / "r")
    text, _ = run.communicate(timeout=30)
    assert run.returncode == 2
    assert "M0-W-1311" in text
    assert not (tmp_path / "r").exists()


def test_without_asserts_the_suite_does_not_run(tmp_path: Path) -> None:
    run = suite(folder=tmp_path / "r", env={"PYTHONOPTIMIZE": "1"})
    text, _ = run.communicate(timeout=30)
    assert run.returncode == 4
    assert "PYTHONOPTIMIZE" in text


def test_hints_hold_ipv6_in_brackets() -> None:
    with pytest.raises(UrlError, match=r"http://\[::1\]:9000$"):
        parse_url("http://[::1]:9000/v1")


def test_limits_are_totals(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        assert Limits(60.0, store).exceeded() is None
        assert "deadline" in (Limits(0.0, store).exceeded() or "")
        store.written = DISK_BYTES + 1
        assert "recordings" in (Limits(60.0, store).exceeded() or "")
    assert (deadline_s(None, 600.0), deadline_s(None, 3600.0), deadline_s(2.0, 3600.0)) == (900.0, 5400.0, 120.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_known_is_reported_within_five_seconds(tmp_path: Path, number: signal.Signals) -> None:
    run = suite("--worker-command", command("flood"), folder=tmp_path / "r")
    for _ in range(300):
        if (tmp_path / "r" / "transcripts").exists():
            break
        time.sleep(0.1)
    time.sleep(2.0)
    run.send_signal(number)
    begin = time.monotonic()
    text, _ = run.communicate(timeout=30)
    assert time.monotonic() - begin < 5.0, text
    assert run.returncode in {1, 3}
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["run"]["options"]["ended_early"] == "interrupted"


def test_a_flood_is_kept_up_to_a_limit_and_counted() -> None:
    async def work() -> tuple[int, int]:
        code = "import sys\nfor i in range(100000): sys.stdout.write('x' * 100 + '\\n')"
        worker = await WorkerProcess.start([sys.executable, "-c", code], label="w", port=free_port())
        await worker.exited(20.0)
        await worker.stop()
        return sum(len(line.text) for line in worker.lines), worker.launch.dropped_lines

    kept, dropped = asyncio.run(work())
    assert kept <= MAX_KEPT_BYTES
    assert dropped > 0


@pytest.mark.skipif(sys.platform != "linux", reason="a process that has detached itself is found on Linux only")
def test_nothing_outlives_its_worker(tmp_path: Path) -> None:
    """A grandchild in a session of its own, whose parent has gone."""
    note = tmp_path / "pid"
    inner = f"import os,time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    outer = f"import subprocess,sys; subprocess.Popen([sys.executable,'-c',{inner!r}], start_new_session=True)"

    async def work() -> None:
        worker = await WorkerProcess.start([sys.executable, "-c", outer], label="w", port=free_port())
        await worker.exited(10.0)
        for _ in range(100):
            if note.exists() and note.read_text():
                break
            await asyncio.sleep(0.05)
        await worker.stop()

    asyncio.run(work())
    with contextlib.suppress(psutil.NoSuchProcess):
        left = psutil.Process(int(note.read_text()))
        assert left.status() == psutil.STATUS_ZOMBIE
