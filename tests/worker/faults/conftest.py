"""Workers for the fault table; the process and the client are those of the service's tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from m0_models import probes

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))

from worker_process import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from m0_models.probes import Probe


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return probes.script(tmp_path_factory.mktemp("models") / "script.gguf")


@pytest.fixture(scope="session")
def shared(script: Probe) -> Iterator[Worker]:
    """One worker for all faults that leave it as they found it, which it must say itself in the end."""
    worker = Worker(script.path)
    before = worker.run(max_tokens=30, temperature=0).text
    yield worker
    try:
        assert worker.run(max_tokens=30, temperature=0).text == before
        assert worker.end() == 0
        assert worker.errors == ""
    finally:
        worker.kill()


@pytest.fixture
def worker(shared: Worker) -> Worker:
    shared.settle()
    return shared


@pytest.fixture
def launch(script: Probe) -> Iterator[Any]:
    """Start workers of one's own; none outlives the test."""
    started: list[Worker] = []

    def start(*more: str, model: Path | None = None, wait: bool = True) -> Worker:
        worker = Worker(model or script.path, *more, wait=wait)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()
