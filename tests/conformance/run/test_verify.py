"""`verify` finds one changed byte, wherever it lies, and says where."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from m0_conformance.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "report"
    words = ["run", "--report-dir", str(folder), "--requirement", "M0-W-1312*", "--allow-partial"]
    subprocess.run([sys.executable, "-P", "-m", "m0_conformance", *words], check=True, capture_output=True, timeout=120)
    return folder


@pytest.fixture
def report(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "report")


def change(path: Path) -> None:
    """One bit, in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def recording(report: Path) -> Path:
    return min((report / "transcripts").iterdir())


def test_a_report_as_the_run_left_it(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(report)]) == 0
    assert "judged again, every status is the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (lambda report: report / "report.json", 2),
        (recording, 1),
        (lambda report: report / "run.ndjson", 1),
        (lambda report: report / "report.html", 1),
        (lambda report: report / "junit.xml", 1),
        (lambda report: report / "summary.md", 1),
        (lambda report: report / "badge.svg", 1),
    ],
    ids=["report", "recording", "stream", "html", "junit", "summary", "badge"],
)
def test_one_changed_byte_is_found_and_named(
    report: Path, file: Callable[[Path], Path], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(report)
    change(path)
    assert main(["verify", str(report)]) == code
    said = capsys.readouterr()
    assert str(path) in said.out + said.err


def test_missing_and_added_files_are_named(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = recording(report)
    gone.rename(report / "transcripts/another.json")
    (report / "notes.txt").write_text("looks fine")
    assert main(["verify", str(report)]) == 1
    said = capsys.readouterr().out
    for path in (gone, report / "transcripts/another.json", report / "notes.txt"):
        assert str(path) in said


def test_every_byte_of_the_record_of_the_run_is_covered(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = report / "run.ndjson"
    data = path.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 25)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert main(["verify", str(report)]) == 1, f"byte {at}: {data[max(0, at - 40) : at + 40]!r}"
    capsys.readouterr()
