"""`spec check`: what changed, moved, vanished or appeared between the pinned spec and a file at hand."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest
from m0_conformance.spec.drift import check_file, compare, find_passages
from m0_conformance.spec.registry import Registry, load_registry

if TYPE_CHECKING:
    from pathlib import Path

# Made-up passages in the shape of the spec: identified headings, plain ones, and a hash line inside a code block.
DOCUMENT = """\
# Title

## 7. Interface

#### [M0-W-1300] POST /execute
The endpoint MUST take jobs.

```bash
# a comment in a code block ends the passage: the rule looks at lines only
curl
```

#### [M0-W-1301] Single-Threaded Execution
One after   the other.
It MUST be so.

### 7.2 Plain heading
It MUST not count for 1301.

#### [M0-SYS-2.4.1] Process Isolation Requirement
Apart.
"""
NAMES = ("M0-W-1300", "M0-W-1301", "M0-SYS-2.4.1")


def pinned(text: str = DOCUMENT) -> Registry:
    """A registry of three requirements, locked to `text`."""
    registry = load_registry()
    passages = {passage.id: passage for passage in find_passages(text)}
    requirements = {
        name: replace(registry.requirements[name], line=passages[name].line, sha256=passages[name].sha256)
        for name in NAMES
    }
    spec = replace(registry.spec, sha256=hashlib.sha256(text.encode()).hexdigest())
    return replace(registry, spec=spec, requirements=MappingProxyType(requirements))


def test_the_passage_rule() -> None:
    execute, threads, isolation = find_passages(DOCUMENT)
    assert (execute.id, execute.title, execute.line) == ("M0-W-1300", "POST /execute", 5)
    folded = "#### [M0-W-1300] POST /execute The endpoint MUST take jobs. ```bash"
    assert execute.sha256 == hashlib.sha256(folded.encode()).hexdigest()
    assert threads.demands == ((15, "It MUST be so."),)
    assert (isolation.id, isolation.demands) == ("M0-SYS-2.4.1", ())


def test_the_same_file_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "spec.md"
    path.write_text(DOCUMENT)
    code, text = check_file(pinned(), path)
    assert code == 0
    assert "(this is that file)" in text
    assert "3 of 3 passages unchanged (0 at another line), 0 changed, 0 new, 0 gone" in text


def test_white_space_is_no_change() -> None:
    assert compare(pinned(), DOCUMENT.replace("after   the", "after\nthe")).exit_code == 0


def test_a_moved_passage_is_reported_and_is_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "spec.md"
    path.write_text("A new first line.\n\n" + DOCUMENT)
    code, text = check_file(pinned(), path)
    assert code == 0
    assert "moved: M0-W-1300 5->7, M0-W-1301 13->15, M0-SYS-2.4.1 20->22" in text


def test_a_changed_passage_names_its_clauses_and_demands(tmp_path: Path) -> None:
    path = tmp_path / "spec.md"
    path.write_text(DOCUMENT.replace("One after", "It MUST be fair.\nOne after"))
    code, text = check_file(pinned(), path)
    assert code == 1
    assert "CHANGED  M0-W-1301 Single-Threaded Execution (line 13 -> 13)" in text
    assert "review M0-W-1301/no-interleave:" in text
    assert "demand at line 14: It MUST be fair." in text
    assert "M0-W-1300/prompt-max" not in text


def test_a_new_title_is_a_change() -> None:
    comparison = compare(pinned(), DOCUMENT.replace("Single-Threaded Execution", "Sequential Execution"))
    assert [passage.title for passage in comparison.changed] == ["Sequential Execution"]


def test_a_new_requirement_has_no_clause_yet(tmp_path: Path) -> None:
    path = tmp_path / "spec.md"
    path.write_text(DOCUMENT + "\n#### [M0-W-1303] Fairness\nNobody MUST starve.\n")
    code, text = check_file(pinned(), path)
    assert code == 1
    assert "NEW      M0-W-1303 Fairness (line 23): no clause stands for it" in text
    assert "demand at line 24: Nobody MUST starve." in text


def test_a_vanished_requirement_names_what_to_retire(tmp_path: Path) -> None:
    path = tmp_path / "spec.md"
    path.write_text(DOCUMENT.replace("[M0-SYS-2.4.1] ", ""))
    code, text = check_file(pinned(), path)
    assert code == 1
    assert "GONE     M0-SYS-2.4.1 Process Isolation Requirement (was at line 20)" in text
    assert "retire M0-SYS-2.4.1/standalone" in text


def test_a_second_heading_of_one_id_is_reported() -> None:
    comparison = compare(pinned(), DOCUMENT + "\n#### [M0-W-1300] POST /execute\nAgain.\n")
    assert comparison.repeated == ("M0-W-1300",)
    assert comparison.exit_code == 1
    assert comparison.changed == ()


@pytest.mark.parametrize(
    ("data", "expected"),
    [(None, "cannot be read"), (b"\xff\xfe", "is no UTF-8 text (byte 0)"), (b"# Some other text\n", "is it the M0")],
    ids=["missing", "binary", "another document"],
)
def test_a_file_that_is_no_spec_is_a_usage_error(tmp_path: Path, data: bytes | None, expected: str) -> None:
    path = tmp_path / "spec.md"
    if data is not None:
        path.write_bytes(data)
    code, text = check_file(pinned(), path)
    assert code == 2
    assert expected in text
