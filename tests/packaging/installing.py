"""Build a distribution and install it into an environment that holds nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Installed:
    folder: Path

    def run(
        self, program: str, *words: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment; `env` is set on top of the inherited one."""
        return subprocess.run(
            [self.folder / "bin" / program, *words],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )


def build(project: Path, kind: str, output: Path) -> Path:
    """Build one distribution with the locked backend, without a network."""
    before = set(output.iterdir())
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(output)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (made,) = set(output.iterdir()) - before
    return made


def environment(folder: Path, lock: str, distribution: Path) -> Installed:
    """A new environment with a locked set and one distribution; what it asks for must be in the set."""
    venv.create(folder, with_pip=shutil.which("uv") is None)
    python = str(folder / "bin/python")
    pip = ["uv", "pip"] if shutil.which("uv") else [python, "-m", "pip"]
    here = ["--python", python] if pip[0] == "uv" else []
    quiet = {**os.environ, "UV_COMPILE_BYTECODE": "1"}
    for words in (
        ["install", *here, "--quiet", "--require-hashes", "-r", str(ROOT / "requirements" / f"{lock}.txt")],
        ["install", *here, "--quiet", "--no-deps", str(distribution)],
        ["check", *here],
    ):
        done = subprocess.run([*pip, *words], env=quiet, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return Installed(folder)
