"""Kernels compiled without a device are the ones that the device then asks for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from m0_models import named

if TYPE_CHECKING:
    from pathlib import Path

LOAD = """
import sys
from pathlib import Path
from m0_worker.devices import open_device
from m0_worker.engine import load_model
from m0_worker.gguf import GgufFile
device = open_device("cuda", 0)
load_model(GgufFile.open(Path(sys.argv[1])), device)
device.close()
"""


@pytest.mark.parametrize("name", ["script", "dice-f32", "miniature:gpt-oss-mxfp4", "miniature:phi3-q4_k_m"])
def test_a_start_compiles_nothing_after_prepare(name: str, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    named.write(name, model)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    prepare = [sys.executable, "-P", "-m", "m0_worker", "--prepare", str(model)]
    subprocess.run(prepare, check=True, env=environment)
    kept = {path.name for path in (tmp_path / "m0-worker/kernels").iterdir()}
    assert kept
    subprocess.run([sys.executable, "-P", "-c", LOAD, str(model)], check=True, env=environment)
    assert {path.name for path in (tmp_path / "m0-worker/kernels").iterdir()} == kept
