"""The project's tasks.

`nox -s conformance`, `tests`, `fuzz`, `schemathesis`, `lint`, `selftest`, `parity`, `package`, `container`, `docs`,
`bench`, `soak`, `storm`.

Each session installs one locked requirement file (with hashes) and the project itself, nothing else.
Anything after `--` goes to the command the session runs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["conformance"]
nox.options.error_on_missing_interpreters = True

ROOT = Path(__file__).parent
REAL_MODELS = (
    "smollm2-135m",
    "qwen2.5-coder-0.5b",
    "qwen2.5-coder-1.5b",
    "gemma3-270m",
    "deepseek-r1-distill-qwen-7b-truncated",
)


def install(session: nox.Session, requirements: str) -> None:
    """Install the locked set and the project; a stamp saves the second run the seconds it takes to look.

    Bytecode is kept whatever the environment says: every worker that the suite starts would compile its imports anew.
    """
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    session.env["UV_COMPILE_BYTECODE"] = "1"
    lock = ROOT / "requirements" / f"{requirements}.txt"
    stamp = Path(session.create_tmp()) / "installed.txt"
    wanted = lock.read_text(encoding="utf-8") + (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    session.install("--require-hashes", "-r", str(lock))
    session.install("--no-deps", "-e", ".")
    stamp.write_text(wanted, encoding="utf-8")


def has_nvidia_device() -> bool:
    """Say whether the NVIDIA driver's own tool is there: the cheapest sign of a device."""
    return shutil.which("nvidia-smi") is not None


@nox.session
def conformance(session: nox.Session) -> None:
    """Judge a worker (default: the bundled one) against all 98 M0 requirements."""
    install(session, "runtime")
    if has_nvidia_device():
        session.install("--require-hashes", "-r", "requirements/cuda.txt")
    session.run("python", "-P", "-m", "m0_conformance", "run", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, two at a time: most of them wait for a process."""
    install(session, "dev")
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "2", "tests"]))


@nox.session
def hostile(session: nox.Session) -> None:
    """The suite against thirty workers that mean harm: time, memory, processes left, verdict; about an hour."""
    install(session, "dev")
    session.run("python", "tests/hostile/measure.py", *session.posargs)


@nox.session
def schemathesis(session: nox.Session) -> None:
    """Ask a worker thousands of times whether it answers as its own /openapi.json says."""
    install(session, "dev")
    session.env["M0_CASES"] = "3000"
    session.run("python", "-m", "pytest", "tests/worker/service/test_schemathesis.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types and the walls between the rooms."""
    install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")
    if shutil.which("go"):  # the linter of GitHub's workflows is a Go program
        session.run("go", "run", "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12", external=True)
    else:
        session.warn("no Go here: actionlint was not run on .github/workflows")


@nox.session
def selftest(session: nox.Session) -> None:
    """Prove the suite: every seeded defect caught with its exact clauses, no oddity flagged."""
    install(session, "dev")
    session.run("python", "-P", "-m", "m0_conformance", "selftest", *session.posargs)


@nox.session
def parity(session: nox.Session) -> None:
    """Climb the tolerance ladder against llama.cpp with the whole zoo of models."""
    install(session, "dev")
    session.run("python", "-P", "-m", "m0_parity", *(session.posargs or ["ladder"]))


@nox.session
def package(session: nox.Session) -> None:
    """Build both distributions, and judge the bundled worker with the installed suite, far from the sources."""
    install(session, "dev")
    for project in (ROOT, ROOT / "worker"):
        shutil.rmtree(project / "dist", ignore_errors=True)
        with session.chdir(project):
            session.run("python", "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel")
    folder = Path(session.create_tmp()).resolve() / "elsewhere"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    session.run("python", "-m", "venv", os.fspath(folder / "venv"))
    program = folder / "venv" / "bin"
    (wheel,) = (ROOT / "dist").glob("*.whl")
    lock = os.fspath(ROOT / "requirements" / "runtime.txt")
    for words in (("--require-hashes", "-r", lock), ("--no-deps", os.fspath(wheel))):
        session.run(os.fspath(program / "python"), "-m", "pip", "install", "--quiet", *words, external=True)
    with session.chdir(folder):
        session.run(os.fspath(program / "m0-conformance"), "run", external=True)


@nox.session
def container(session: nox.Session) -> None:
    """Build the image and use it: Docker, Podman, or as root buildah. After `--`: `--variant cuda`, `--base IMAGE`."""
    install(session, "dev")
    session.run("python", "-m", "pytest", "ci/container", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Broken model files: 40,000 structured mutants, then 200,000 by a coverage-guided fuzzer. Linux only."""
    install(session, "runtime")
    session.install("--require-hashes", "-r", "requirements/fuzz.txt")
    for words in (("--mutants", "40000"), ("--executions", "200000")) if not session.posargs else (session.posargs,):
        session.run("python", "tests/fuzz/run.py", *words)


@nox.session
def real(session: nox.Session) -> None:
    """Prove the parity tool on real models, fetched by name: equal within time and memory, planted mistakes found."""
    install(session, "dev")
    session.run("python", "-P", "-m", "m0_models", "fetch", *REAL_MODELS)
    session.run("python", "-m", "pytest", "-m", "real", *(session.posargs or ["tests"]))


@nox.session
def haiku(session: nox.Session) -> None:
    """Fetch a small real model, stream a haiku from it, and check that the model wrote it."""
    install(session, "dev")
    if has_nvidia_device():
        session.install("--require-hashes", "-r", "requirements/cuda.txt")
    session.run("python", "-P", "-m", "m0_parity", "haiku", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Load a worker for a long time: no terminal event lost, counts equal, no growth. After `--`: `--minutes N`."""
    install(session, "dev")
    session.run("python", "tests/worker/faults/soak.py", *session.posargs)


@nox.session
def storm(session: nox.Session) -> None:
    """Send a worker hostile requests: no 5xx, no job left, the same answers after. After `--`: `--requests N`."""
    install(session, "dev")
    session.run("python", "tests/worker/faults/storm.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into build/site, every link and anchor checked; `-- serve` shows it while you write."""
    install(session, "docs")
    session.run("python", "-P", "-m", "mkdocs", *(session.posargs or ["build", "--strict"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory, each figure beside what a user would pick instead, in the same run."""
    install(session, "dev")
    if has_nvidia_device():
        session.install("--require-hashes", "-r", "requirements/cuda.txt")
    session.run("python", "-m", "bench", *session.posargs, env={"PYTHONPATH": os.fspath(ROOT)})
