"""Workers that load few forms of files, want more arguments, other paths, a token: judged all the same, with causes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from m0_conformance.recording.cause import cause, ending
from m0_conformance.recording.request import Request
from m0_conformance.recording.route import Route
from m0_conformance.recording.transcript import LogLine
from m0_conformance.targets.callback import CallbackListener
from m0_conformance.targets.command import Command

if TYPE_CHECKING:
    from pathlib import Path

PICKY = """
import os, sys
from pathlib import Path
from m0_models.scan import Scan
words = sys.argv[1:]
if "--callback-url" not in words or words.count("--callback-url") > 1:
    sys.exit("error: one --callback-url is required")
kind = Scan(Path(words[words.index("--model") + 1])).metadata.get("general.file_type")
if kind not in (0, 1):
    print(f"Error: tensors of file type {kind} are not supported", file=sys.stderr)
    print("stack backtrace:\\n   0: worker::load\\n  15: _start", file=sys.stderr)
    sys.exit(1)
os.execv(sys.executable, [sys.executable, "-P", "-m", "m0_worker", "--device", "cpu", *words])
"""


def report_of(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text("utf-8"))


def status(report: dict, clause: str) -> str:
    requirement = next(r for r in report["requirements"] if r["id"] == clause.partition("/")[0])
    return next(c["status"] for c in requirement["clauses"] if c["id"] == clause)


def test_what_one_form_cannot_say_another_does(tmp_path: Path) -> None:
    """A worker that takes F16 and F32 only fails the formats of M0, and everything else is judged."""
    program = tmp_path / "picky.py"
    program.write_text(PICKY, "utf-8")
    command = f"{sys.executable} {program} {{callback_url}} --worker-id {{worker_id}} --model {{model}} --port {{port}}"
    command = command.replace("{callback_url}", "--callback-url {callback_url}").replace(
        "--port", "--gpu-device 0 --port"
    )
    wanted = [word for clause in ("M0-W-1201", "M0-W-1430") for word in ("--requirement", clause)]
    folder = tmp_path / "report"
    words = [
        sys.executable,
        "-P",
        "-m",
        "m0_conformance",
        "run",
        "--worker-command",
        command,
        "--report-dir",
        str(folder),
    ]
    subprocess.run([*words, "--header", "X-Pass: sesame-42", *wanted], capture_output=True, check=False)
    report = report_of(folder)
    assert status(report, "M0-W-1201/q4-0-runs") == status(report, "M0-W-1201/mxfp4-runs") == "FAIL"
    assert status(report, "M0-W-1430/positions") == status(report, "M0-W-1430/attends-to-context") == "PASS"
    (sentence,) = report["run"]["options"]["probe_forms"]
    assert sentence.startswith("the script probe is judged as F16, qwen2: ")
    assert "Error: tensors of file type 2 are not supported" in sentence
    everything = "".join(path.read_text("utf-8", "replace") for path in folder.rglob("*") if path.is_file())
    assert "sesame-42" not in everything
    assert "X-Pass:[redacted]" in everything


def lines(*texts: str, stream: str = "stderr") -> list[LogLine]:
    return [LogLine(stream, 0.1, text) for text in texts]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (["thread 'main' panicked at src/log.rs:9:", "byte index 100 is not a char boundary", "   0: rust"],
         "thread 'main' panicked at src/log.rs:9: byte index 100 is not a char boundary"),
        (["loading", "Error: no scores", "stack backtrace:", "   0: load", "  15: _start"], "Error: no scores"),
        (["Traceback (most recent call last):", '  File "w.py", line 3', "ValueError: no such type", ""],
         "ValueError: no such type"),
        (["panic: runtime error: index out of range", "", "goroutine 1 [running]:"],
         "panic: runtime error: index out of range"),
        (["terminate called after throwing an instance of 'std::bad_alloc'", "  what():  std::bad_alloc"],
         "what():  std::bad_alloc"),
        (["all well", "and then nothing"], "and then nothing"),
        ([], ""),
    ],
)  # fmt: skip
def test_the_line_that_tells_why_is_found(said: list[str], why: str) -> None:
    assert cause(lines(*said)) == why


def test_an_ending_names_its_signal() -> None:
    assert (ending(-11), ending(3), ending(-99)) == ("killed by SIGSEGV", "exit code 3", "killed by signal 99")


def test_a_request_takes_the_way_that_the_user_names() -> None:
    route = Route.parse(["execute=/v1/inference"], ["Authorization: Bearer abc"])
    sent = route.sent(Request("POST", "/execute", [("Content-Type", "application/json")], b"{}"))
    assert (sent.path, sent.headers[-1]) == ("/v1/inference", ("Authorization", "Bearer abc"))
    raw = route.sent(Request("RAW", "/execute", raw=b"POST /execute HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert raw.raw == b"POST /v1/inference HTTP/1.1\r\nAuthorization: Bearer abc\r\nHost: a\r\n\r\n"
    assert route.sent(Request("RAW", "", raw=b"no request at all")).raw == b"no request at all"
    for paths, headers in ((["run=/x"], []), (["execute=x"], []), ([], ["no colon"])):
        with pytest.raises(ValueError, match="write"):
            Route.parse(paths, headers)


def test_a_callback_url_is_given_once() -> None:
    values = {"worker_id": "w", "model": "m", "gpu_device": "0", "port": "1", "callback_url": "http://ours"}
    ours = Command(("w", "--model", "{model}", "--callback-url", "{callback_url}"))
    assert ours.argv(values) == ["w", "--model", "m", "--callback-url", "http://ours"]
    assert ours.argv(values, ("--callback-url", "http://check")) == [
        "w",
        "--model",
        "m",
        "--callback-url",
        "http://check",
    ]
    fixed = Command(("w", "--callback-url", "http://theirs"))
    assert fixed.argv(values, ("--callback-url", "http://check")).count("--callback-url") == 1
    assert not ours.passes("gpu_device")
    assert fixed.passes("gpu_device")


def test_a_callback_is_answered() -> None:
    async def call() -> bytes:
        listener = CallbackListener()
        url = await listener.url()
        port = int(url.split(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
        answer = await reader.read()
        writer.close()
        listener.close()
        return answer

    assert asyncio.run(call()).startswith(b"HTTP/1.1 200 OK\r\n")
