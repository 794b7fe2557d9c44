from __future__ import annotations

import shutil
from pathlib import Path

import m0_conformance
import pytest


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A folder with a copy of the shipped registry, which a test may break."""
    package = Path(m0_conformance.__file__).parent
    for name in ("spec", "areas"):
        shutil.copytree(package / name, tmp_path / name, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return tmp_path
