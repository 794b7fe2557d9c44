"""`m0-worker --prepare` compiles what models need where no device is. Needs NVRTC and no device."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from m0_models import named

if TYPE_CHECKING:
    from pathlib import Path


# One model with each kind of instruction: experts, layer norms, neither.
@pytest.mark.parametrize("name", ["script", "miniature:gpt-oss-mxfp4", "miniature:gpt2-q8_0"])
def test_all_kernels_compile_without_a_device(name: str, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    named.write(name, model)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-P", "-m", "m0_worker", "--prepare", str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "m0-worker/kernels").iterdir())) >= 4  # decode, prompts, sampling, repacking
