"""Every kind of model by one kind of name."""

from __future__ import annotations

from pathlib import Path

import pytest
from m0_models import named


@pytest.mark.parametrize(
    ("name", "promises"), [("bias", True), ("corrupt:bad-magic", False), ("miniature:llama-q4_0", False)]
)
def test_writes_the_model_that_was_named(tmp_path: Path, name: str, promises: bool) -> None:
    path, facts = named.write(name, tmp_path / "model.gguf")
    assert Path(path).stat().st_size > 0
    assert (facts is not None) == promises


@pytest.mark.parametrize("name", ["nothing", "corrupt:nothing", "miniature:nothing", "benchmark:nothing", "other:bias"])
def test_lists_what_there_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyError, match=r"no model .*; known: "):
        named.write(name, tmp_path / "model.gguf")
