"""m0-parity http: two running workers, one over llama.cpp, on the same and on different miniatures."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
import pytest
from m0_models import miniatures
from m0_parity.cli import main
from m0_parity.http.agreement import Parting, parting
from m0_parity.http.client import Generated
from m0_parity.http.command import read_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKER_ID = "7f2c1b1e-5d0a-4c55-9a53-0d6f1f1c2a90"
PROMPTS = ["the quick brown fox", "Hello, world! 1 + 1 = ?", " äöü 日本語 😀"]


@contextmanager
def worker(package: str, model: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-P", "-m", package, "--worker-id", WORKER_ID, "--model", str(model), "--gpu-device", "0"]
    process = subprocess.Popen([*words, "--port", str(port)], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                httpx2.get(f"{url}/health", trust_env=False)
                break
            except httpx2.ConnectError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    (made / "prompts.txt").write_text("\n".join(PROMPTS))
    miniatures.write(made / "one.gguf", "qwen2", "F32")
    miniatures.write(made / "other.gguf", "qwen2", "F32", seed=1)
    return made


@pytest.fixture(scope="module")
def both(folder: Path) -> Iterator[tuple[str, str]]:
    with worker("m0_worker", folder / "one.gguf") as a, worker("m0_peer", folder / "one.gguf") as b:
        yield a, b


def test_two_engines_say_the_same(
    folder: Path, both: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = str(folder / "one.gguf")
    assert main(["http", *both, "--prompts", str(folder / "prompts.txt"), "--model", model, "--max-tokens", "24"]) == 0
    told = capsys.readouterr().out
    assert "3 equal, 0 differing, 0 not compared" in told
    assert len(re.findall(r"\d+ tokens a second", told)) == 2
    tmp_path.joinpath("p.jsonl").write_text('"a\\nb"\n')
    assert main(["http", *both, "--prompts", str(tmp_path / "p.jsonl"), "--max-tokens", "4"]) == 0


def test_other_weights_differ_and_llama_cpp_says_how_clearly(
    folder: Path, both: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with worker("m0_peer", folder / "other.gguf") as other:
        words = ["http", both[0], other, "--prompts", str(folder / "prompts.txt"), "--max-tokens", "24"]
        assert main([*words, "--model", str(folder / "one.gguf")]) == 1
        told = capsys.readouterr().out
        found = re.findall(r"differs at token (\d+): .*; llama.cpp takes A, margin ([\d.e-]+)", told)
        assert found, told
        assert all(float(margin) > 0.01 for _, margin in found)  # far from rounding
        assert main(words) == 1
        assert "margin unknown" in capsys.readouterr().out


def test_a_prompt_that_one_refuses_is_not_compared(
    both: tuple[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "p.txt").write_text("fine\n" + "x " * 20000 + "\n")
    assert main(["http", *both, "--prompts", str(tmp_path / "p.txt"), "--max-tokens", "4"]) == 3
    assert "1 equal, 0 differing, 1 not compared" in capsys.readouterr().out


def test_nobody_there_is_not_compared(folder: Path, both: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["http", both[0], "http://127.0.0.1:9", "--prompts", str(folder / "prompts.txt")]
    assert main(words) == 3
    assert "http://127.0.0.1:9 does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "\n \n", '{"a": 1}', '""', "[", '"a"\n1'])
def test_a_file_without_prompts_is_wrong_use(text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    assert main(["http", "http://a", "http://b", "--prompts", str(tmp_path / "p.jsonl")]) == 2
    assert "cannot compare" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"."):
        read_prompts(tmp_path / "p.jsonl")


def test_a_missing_file_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http", "http://a", "http://b", "--prompts", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


def generated(*texts: str) -> Generated:
    return Generated(texts, 0.1, 0.2)


def test_partings() -> None:
    assert parting(generated("a", "b"), generated("a", "b")) is None
    assert parting(generated("a", "", "ä"), generated("a", "ä", "")) is None
    assert parting(generated("a", "b"), generated("a", "c")) == Parting(1, "b", "c")
    assert parting(generated("a", "b"), generated("a")) == Parting(1, "b", None)
    assert parting(generated(), generated("x")) == Parting(0, None, "x")
