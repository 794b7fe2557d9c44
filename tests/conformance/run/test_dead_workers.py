"""A shared worker that dies in the middle of a run is started again; the report counts it and says why it died."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MORTAL = """
import json, os, runpy, signal, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *words): pass
    def do_GET(self):
        self.reply("application/json", json.dumps({"status": "healthy"}).encode())
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if len(str(body.get("prompt")).encode()) > 1500:
            print("thread 'main' panicked at src/log.rs:9:\\nbyte index 100 is not a char boundary", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGABRT)
        events = [("started", {"job_id": body["job_id"], "model": "m", "started_at": "2025-01-01T00:00:00Z"}),
                  ("token", {"t": "a", "i": 0}), ("end", {"tokens_out": 1, "decode_time_ms": 1, "stop_reason": "MAX_TOKENS"})]
        self.reply("text/event-stream", "".join(f"event: {n}\\ndata: {json.dumps(d)}\\n\\n" for n, d in events).encode())
    def reply(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
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
