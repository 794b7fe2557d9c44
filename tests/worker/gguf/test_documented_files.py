"""The page that says which files the worker takes names all that it takes, and nothing else."""

import re
from pathlib import Path

from m0_worker.adapters import ADAPTERS
from m0_worker.gguf import GgmlType
from m0_worker.tokenizers.pretokenizers import PRE_TOKENIZERS

PAGE = Path(__file__).parents[3] / "docs" / "worker-service.md"


def names(row: str) -> set[str]:
    """What a row of the page's last table names."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {row}")]
    (line,) = lines
    return set(re.findall("`([^`]+)`", line.removeprefix(f"| {row}")))


def test_the_page_names_every_architecture_type_and_pre_tokenizer() -> None:
    assert names("`general.architecture` |") == set(ADAPTERS)
    assert names("Storage types") == {kind.name for kind in GgmlType}
    assert names("`tokenizer.ggml.pre` |") == set(PRE_TOKENIZERS)
