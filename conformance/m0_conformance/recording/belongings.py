"""Which files of a folder are the suite's own: a list beside them, and nothing that is not on it is ever touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LIST = ".m0-conformance-files"
"""One relative path a line, in the order of writing; appended before the file is written."""
FOLDERS = ("transcripts", "repro")
FILES = ("run.ndjson", "report.json", "report.html", "junit.xml", "summary.md", "badge.svg")


class InTheWayError(ValueError):
    """Something that the suite did not write has a name that it needs; the message says what and the cure."""


def owned(folder: Path) -> set[str]:
    """Relative paths that the suite wrote here; without a list, what its run.ndjson names."""
    try:
        lines = (folder / LIST).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return _named_by_stream(folder)
    return {line for line in lines if _inside(line)}


def claim(folder: Path, names: Iterable[str]) -> None:
    """Take names for files about to be written. Raises InTheWayError before anything has changed."""
    ours = owned(folder)
    wanted = list(names)
    for name in wanted:
        path = folder / name
        if (path.exists() or path.is_symlink()) and (name not in ours or path.is_symlink() or not path.is_file()):
            raise InTheWayError(f"{path} is in the way: this suite did not write it; move it, or name another folder")
    with (folder / LIST).open("a", encoding="utf-8") as listed:
        listed.writelines(f"{name}\n" for name in wanted)


def clear(folder: Path) -> None:
    """Remove what the last run left, and claim the names of the next. Raises InTheWayError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        path = folder / name
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise InTheWayError(f"{path} is in the way: a folder is needed here; move it, or name another folder")
    ours = owned(folder)
    claim(folder, FILES)
    for name in ours - set(FILES[:1]):
        path = folder / name
        if name in FILES or path.parent.name in FOLDERS:
            path.unlink(missing_ok=True)
    (folder / LIST).write_text("".join(f"{name}\n" for name in FILES), encoding="utf-8")


def _inside(line: str) -> bool:
    folder, _, name = line.rpartition("/")
    return folder in {"", *FOLDERS} and name not in {"", ".", ".."} and "\\" not in name


def _named_by_stream(folder: Path) -> set[str]:
    """Files of a run that kept no list."""
    ours: set[str] = set()
    try:
        with (folder / FILES[0]).open(encoding="ascii") as stream:
            head = json.loads(next(stream))
            if head.get("suite") != "m0-conformance":
                return ours
            ours.update(FILES)
            for line in stream:
                entry = json.loads(line)
                if entry.get("kind") == "recording":
                    ours.add(f"transcripts/{entry['sha']}.json")
    except (OSError, ValueError, StopIteration, AttributeError, KeyError):
        pass
    return {name for name in ours if _inside(name)}
