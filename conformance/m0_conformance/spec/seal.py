"""The seal of a suite: digests over everything that decides a verdict, so that a published matrix is this suite's own.

Python counts by its syntax tree without docstrings, TOML and JSON by their values: a comment, a line break or a new
sentence in a docstring changes nothing, another limit in a judge does.
"""

from __future__ import annotations

import ast
import hashlib
import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent
DECIDING = (
    "areas/**/*.py", "areas/**/*.toml", "judging/**/*.py", "recording/**/*.py", "contract/**/*.py",
    "contract/**/*.json", "targets/**/*.py", "conditions/**/*.py", "run/**/*.py", "saboteur/**/*.py",
    "saboteur/**/*.toml", "spec/*.toml",
    "spec/registry.py", "spec/requirements.py", "spec/tables.py", "spec/check_sets.py",
)  # fmt: skip
"""Demands, what drives a worker, what records, what judges, and the lies that prove it; not what only shows."""
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest_of(path: Path) -> str:
    """SHA-256 over what a file says, whatever its comments and its layout. Raises ValueError for a broken file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        said: Any = _tree(ast.parse(text, str(path)))
    elif path.suffix == ".toml":
        said = tomllib.loads(text)
    else:
        said = json.loads(text)
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _tree(node: Any) -> Any:
    """A syntax tree as JSON: without places, docstrings and fields that are empty (which differ between Pythons)."""
    if isinstance(node, list):
        return [_tree(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, []) and name != "kind"}
    if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    return [type(node).__name__, {name: _tree(value) for name, value in fields.items()}]


def files(package: Path = PACKAGE) -> dict[str, str]:
    """By name, the digest of every file that decides a verdict."""
    found = sorted({path for pattern in DECIDING for path in package.glob(pattern)})
    return {path.relative_to(package).as_posix(): digest_of(path) for path in found}


def seal(digests: dict[str, str]) -> str:
    """One digest over all of them."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


@cache
def suite_seal() -> str:
    """The seal of the suite that runs; read once."""
    return seal(files())
