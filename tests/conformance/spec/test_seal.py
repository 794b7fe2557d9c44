"""What changes the seal of a suite, and what does not; what stands in the way of publishing, and its cure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import m0_conformance
import pytest
from m0_conformance.run.spec_commands import sealable
from m0_conformance.spec.seal import files, seal

PACKAGE = Path(m0_conformance.__file__).parent
JUDGE = "areas/text/judge.py"
CLEAN: dict[str, Any] = {
    "baseline": "green",
    "defects": [{"id": "a", "caught": True}],
    "oddities": [{"id": "b", "flagged": False}],
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The suite's own files, to be changed."""
    shutil.copytree(PACKAGE, tmp_path / "suite", ignore=shutil.ignore_patterns("__pycache__", "report"))
    return tmp_path / "suite"


def edited(package: Path, name: str, old: str, new: str) -> bool:
    """Whether this edit breaks the seal."""
    before = seal(files(package))
    path = package / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return seal(files(package)) != before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (JUDGE, "\n\n\n@judge", "\n\n# a remark\n\n\n@judge"),
        (JUDGE, '"""', '"""In other words. '),
        (JUDGE, "yield require(", "yield (require)("),
        ("areas/text/clauses.toml", "\n[", "\n# a remark\n["),
        ("judging/verdict.py", "\n\n\ndef ", "\n\n\n# a remark\ndef "),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(package: Path, name: str, old: str, new: str) -> None:
    assert not edited(package, name, old, new)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (JUDGE, "is None", "is not None"),
        ("judging/verdict.py", "clause.min_evidence", "0"),
        ("judging/finding.py", 'FAIL = "FAIL"', 'FAIL = "fail"'),
        ("areas/text/clauses.toml", 'observable = "wire"', 'observable = "timing"'),
        ("areas/text/checks.py", "max_tokens=2", "max_tokens=3"),
        ("areas/text/defects.py", 'source="', 'source="not '),
        ("saboteur/lies.py", "return", "return not"),
        ("contract/health.schema.json", '"type"', '"types"'),
    ],
)
def test_whatever_decides_a_verdict_breaks_the_seal(package: Path, name: str, old: str, new: str) -> None:
    assert edited(package, name, old, new)


def stored(tmp_path: Path, now: dict[str, str], **changes: Any) -> Path:
    path = tmp_path / "kill_matrix.json"
    path.write_text(json.dumps({"matrix": CLEAN, "only": [], "shard": [1, 1], "files": now, **changes}))
    return path


def test_a_clean_result_of_this_suite_can_be_sealed(tmp_path: Path) -> None:
    value, refusal = sealable(stored(tmp_path, {"a": "1"}), {"a": "1"})
    assert refusal == ""
    assert value["matrix"] == CLEAN


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"only": ["index-gap"]}, "is of 1 defects only; run `m0-conformance selftest`"),
        ({"shard": [1, 2]}, "is shard 1/2 of a run; `selftest --merge` all of them"),
        ({"files": {"a": "0"}}, "since that self-test a changed; run `m0-conformance selftest`"),
        (
            {"matrix": {**CLEAN, "defects": [{"id": "a", "caught": False}]}},
            "not exact: a; `m0-conformance selftest --only a`",
        ),
        ({"matrix": {**CLEAN, "oddities": [{"id": "b", "flagged": True}]}}, "not exact: b"),
        ({"matrix": {**CLEAN, "baseline": "red"}}, "not exact: truth"),
    ],
)
def test_every_refusal_says_what_to_do(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    _, refusal = sealable(stored(tmp_path, {"a": "1"}, **changes), {"a": "1"})
    assert words in refusal
    assert "spec publish" in refusal


def test_without_a_self_test_there_is_nothing_to_seal(tmp_path: Path) -> None:
    _, refusal = sealable(tmp_path / "none.json", {})
    assert "there is no" in refusal
    assert "run `m0-conformance selftest`" in refusal
