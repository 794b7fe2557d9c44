"""Workers whose output goes where a test wants it."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

from worker_process import ROOT, Stream, command, free_port, narrate_until

if TYPE_CHECKING:
    from m0_models.probes import Probe


def unread(script: Probe, which: str, *more: str, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    """A ready worker one of whose outputs nobody reads from then on."""
    port = free_port()
    process = subprocess.Popen(
        command(script.path, port, *more),
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if which == "stderr" else subprocess.DEVNULL,
    )
    narrate_until(process, "ready")
    return process, port


def run(port: int, job_id: str = "a", **fields: object) -> Stream:
    stream = Stream(port, {"job_id": job_id, "prompt": "*", "max_tokens": 1, **fields})
    stream.all()
    return stream


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
