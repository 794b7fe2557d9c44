"""Both distributions, built and installed once for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from installing import ROOT, Installed, build, environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dist")


@pytest.fixture(scope="session")
def suite_wheel(dist: Path) -> Path:
    return build(ROOT, "wheel", dist)


@pytest.fixture(scope="session")
def worker_wheel(dist: Path) -> Path:
    return build(ROOT / "worker", "wheel", dist)


@pytest.fixture(scope="session")
def suite(suite_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return environment(tmp_path_factory.mktemp("suite") / "venv", "runtime", suite_wheel)


@pytest.fixture(scope="session")
def worker(worker_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return environment(tmp_path_factory.mktemp("worker") / "venv", "worker", worker_wheel)
