from __future__ import annotations

import shutil
from pathlib import Path

import m0_conformance
import pytest


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A copy of the shipped registry that a test may break."""
    shutil.copytree(Path(m0_conformance.__file__).parent / "spec", tmp_path / "spec")
    return tmp_path / "spec"
