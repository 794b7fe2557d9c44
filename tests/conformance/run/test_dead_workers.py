"""A shared worker that dies in the middle of a run is started again; the report counts it and says why it died."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MORTAL = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STREAM = {
    "started": {"job_id": "", "model": "m", "started_at": "2025-01-01T00:00:00Z"},
    "token": {"t": "a", "i": 0},
    "end": {"tokens_out": 1, "decode_time_ms": 1, "stop_reason": "MAX_TOKENS"},
}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply("application/json", json.dumps({"status": "healthy"}))
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if len(str(body.get("prompt")).encode()) > 1500:
            sys.stderr.write("thread 'main' panicked at src/log.rs:9:\\nbyte index 100 is not a char boundary\\n")
            sys.stderr.flush()
            os.abort()
        STREAM["started"]["job_id"] = body["job_id"]
        events = (f"event: {name}\\ndata: {json.dumps(data)}\\n\\n" for name, data in STREAM.items())
        self.reply("text/event-stream", "".join(events))
    def reply(self, kind, text):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *words):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def test_it_is_started_again_and_the_cause_is_shown(tmp_path: Path) -> None:
    program = tmp_path / "mortal.py"
    program.write_text(MORTAL, "utf-8")
    folder = tmp_path / "report"
    words = [sys.executable, "-P", "-m", "m0_conformance", "run", "--worker-command", f"{sys.executable} {program}"]
    wanted = ["--requirement", "M0-W-1362/any-prompt", "--requirement", "M0-W-1310", "--requirement", "M0-W-1311"]
    subprocess.run([*words, "--report-dir", str(folder), *wanted], capture_output=True, check=False)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    counted, first, *_ = report["run"]["options"]["workers_that_ended_by_themselves"]
    assert "started again" in counted
    assert "killed by SIGABRT" in first
    assert "byte index 100 is not a char boundary" in first
    told = [
        finding
        for requirement in report["requirements"]
        for clause in requirement["clauses"]
        for finding in clause["findings"]
        if clause["id"] == "M0-W-1362/any-prompt"
    ]
    assert "it said: thread 'main' panicked at src/log.rs:9: byte index 100" in json.dumps(told)
