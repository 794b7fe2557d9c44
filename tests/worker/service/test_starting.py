"""What a CUDA worker's start does beside the device: opening, refusing, importing. Needs no device, and no CuPy."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from m0_models import named
from m0_worker.cli import parse
from m0_worker.gguf import GgufError
from m0_worker.starting import Opening

if TYPE_CHECKING:
    from pathlib import Path

    from m0_worker.config import WorkerConfig

WORKER = "7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90"

STILL_COMPILING = """
import sys, time, types
from concurrent.futures import ThreadPoolExecutor
from m0_worker.starting import leave_compilers
sys.modules["m0_worker.devices.cuda.compiler"] = types.SimpleNamespace(busy=lambda: True)
ThreadPoolExecutor(1).submit(time.sleep, 20)
print("told")
leave_compilers(1)
"""


def config_of(path: Path, device: str) -> WorkerConfig:
    words = ["--worker-id", WORKER, "--gpu-device", "0", "--port", "8081", "--device", "cpu", "--model", str(path)]
    return replace(parse(words), device=device)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_model_is_opened_beside_the_device_or_at_once(device: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    named.write("script", path)
    opening = Opening(config_of(path, device))
    gguf, tokenizer = opening.result()
    opening.join()
    assert tokenizer.vocab_size <= gguf.tensors["token_embd.weight"].shape[0]
    assert opening.before.st_size == path.stat().st_size
    gguf.close()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_wrong_is_said_when_the_model_is_asked_for(device: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUX" + bytes(60))
    opening = Opening(config_of(path, device))
    with pytest.raises(GgufError, match="magic"):
        opening.result()
    opening.join()


def test_a_failed_start_waits_for_no_compiler() -> None:
    command = [sys.executable, "-P", "-c", STILL_COMPILING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "told\n", "")
