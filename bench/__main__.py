"""`nox -s bench`: every measurement this machine can make, as one table and as JSON.

On a machine with an NVIDIA device the GPU table (`bench.gpu`) is made as well. `--write` puts the CPU figures into
docs/performance.md between its markers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from m0_models.fetch import FetchError, fetch

from bench import engines, real_worker, sse

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def processor() -> str:
    """The processor's name, as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def table(service: dict[str, float], file: str, rows: list[engines.Row]) -> str:
    """Both measurements as Markdown."""
    load = os.getloadavg()[0]
    targets = sse.TARGETS | real_worker.TARGETS
    lines = [
        (
            f"Measured {datetime.now(UTC):%Y-%m-%d} on {processor()}, {os.cpu_count()} cores, "
            f"load average {load:.1f} at the end. Medians; machines are shared, so read the ratios."
        ),
        "",
        "| measurement | figure | aim |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {value:g} | {targets.get(name, '')} |" for name, value in service.items()]
    lines += ["", f"{file}; medians, with the lowest and the highest of {engines.ROUNDS} rounds:", ""]
    lines += [f"| {' | '.join(engines.HEAD)} |", "|---" * len(engines.HEAD) + "|"]
    lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    """Measure what was asked for; 0 when every measurement could be made."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--only", choices=("cpu", "gpu"), default=None, help="default: whatever this machine has")
    parser.add_argument("--write", action="store_true", help="renew the CPU figures of docs/performance.md")
    parser.add_argument("--real", default="qwen2.5-coder-0.5b", metavar="NAME", help="CPU: the real model, by its name")
    parser.add_argument("--model", type=Path, metavar="PATH", help="CPU: a GGUF file instead of the real model")
    parser.add_argument("--output", type=Path, default=ROOT / "reports" / "bench", help="folder for bench.json")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.only != "cpu" and shutil.which("nvidia-smi"):
        from bench import gpu  # noqa: PLC0415 - needs CuPy

        return gpu.main(options.output)
    if options.only == "gpu":
        sys.stderr.write("bench: no NVIDIA device here (nvidia-smi is missing)\n")
        return 3
    try:
        path = options.model or fetch(options.real, tell=lambda line: print(line, flush=True))  # noqa: T201 - progress
    except (FetchError, KeyError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 3
    service = sse.measure() | real_worker.measure(path)
    rows = engines.measure(path)
    text = table(service, path.name, rows)
    sys.stdout.write(text + "\n")
    figures = {"service": service, "file": path.name, "engines": [asdict(row) for row in rows]}
    (options.output / "bench.json").write_text(json.dumps(figures, indent=1) + "\n")
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        head, _, rest = page.partition(BEGIN)
        _, _, tail = rest.partition(END)
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
