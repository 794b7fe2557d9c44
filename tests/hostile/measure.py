"""The suite against every hostile worker: `python tests/hostile/measure.py [KIND …]`; one line each, exit 1 on a miss.

Each run must end within `SECONDS`, with less than `BYTES` of the suite's memory, no process left, and not green. The
deadline given is 2 minutes; that it is kept, and nothing else, is what the time shows.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil
from hostile_worker import WORKERS

SECONDS, BYTES = 180.0, 500 << 20
WORKER = Path(__file__).with_name("hostile_worker.py")


def strays(mark: str) -> list[int]:
    """Processes of one run that are still there."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("M0_HOSTILE_RUN") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def judged(kind: str, folder: Path) -> bool:
    """One run; prints its line."""
    command = shlex.join([sys.executable, "-P", str(WORKER), kind])
    words = ["-m", "m0_conformance", "run", "--deadline", "2", "--worker-command", command, "--report-dir", str(folder)]
    mark, begin, peak = uuid.uuid4().hex, time.monotonic(), 0
    with (folder.parent / f"{kind}.txt").open("w", encoding="utf-8") as said:
        suite = psutil.Popen(
            [sys.executable, "-P", *words], stdout=said, stderr=said, env={**os.environ, "M0_HOSTILE_RUN": mark}
        )
        while suite.poll() is None and time.monotonic() - begin < 2 * SECONDS:
            try:
                peak = max(peak, suite.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.1)
        if suite.poll() is None:
            suite.kill()
        code = suite.wait()
    took, left = time.monotonic() - begin, strays(mark)
    fine = took < SECONDS and peak < BYTES and not left and code in {1, 3}
    sys.stdout.write(
        f"{'ok  ' if fine else 'MISS'} {kind:24} {took:6.1f} s {peak >> 20:5} MiB exit {code} left {len(left)}\n"
    )
    sys.stdout.flush()
    return fine


def main() -> int:
    """Measure those named, or all."""
    with tempfile.TemporaryDirectory(prefix="m0-hostile-") as scratch:
        results = [judged(kind, Path(scratch) / kind) for kind in sys.argv[1:] or WORKERS]
    sys.stdout.write(f"{sum(results)} of {len(results)} hostile workers within the limits\n")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
