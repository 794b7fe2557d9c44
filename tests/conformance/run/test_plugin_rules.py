"""What the plugin refuses, run in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from m0_conformance.judging.judge import judged_clauses, load_all
from m0_conformance.run.options import RunOptions
from m0_conformance.run.pytest_session import CHECKS, collect_checks
from m0_conformance.run.session import Run
from m0_conformance.spec.check_sets import FrozenError, freeze, frozen_checks, members
from m0_conformance.spec.registry import load_registry

ROOT = Path(__file__).parents[3]
HEAD = "import pytest\nfrom m0_conformance.run.situation import requirement, Situation\n"
FINE = '@requirement("M0-W-1300/job-id")\nasync def test_x(situation: Situation) -> None:\n    pass\n'


BAD = {
    "unknown": (FINE.replace("job-id", "no-such-clause"), "unknown clause 'M0-W-1300/no-such-clause'"),
    "nothing": ("def test_x() -> None:\n    pass\n", "nothing/checks.py::test_x: a check without a clause"),
    "skip": ("@pytest.mark.skip\n" + FINE, "skip/checks.py::test_x: skip is forbidden"),
    "xfail": ("@pytest.mark.xfail\n" + FINE, "xfail/checks.py::test_x: xfail is forbidden"),
    "call": (FINE.replace("pass", "pytest.skip('no')"), "checks.py:5: pytest.skip is forbidden"),
}


def test_dishonest_checks_are_collection_errors(tmp_path: Path) -> None:
    for name, (text, _) in BAD.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "checks.py").write_text(HEAD + text)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", str(CHECKS / "pytest.ini"), "--rootdir", str(tmp_path)),
            *("-p", "pytest_asyncio.plugin", "-p", "m0_conformance.run.plugin", "--import-mode=importlib"),
            *("--worker-url", "http://127.0.0.1:9", "--report-dir", str(tmp_path / "out"), str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == 4
    for _, word in BAD.values():
        assert word in done.stdout + done.stderr


def test_shipped_checks_name_known_clauses_with_judges() -> None:
    load_all()
    checks = collect_checks()
    known = load_registry().clauses
    named = {clause for check in checks.values() for clause in check.clauses}
    assert named <= set(known)
    assert judged_clauses() <= set(known)
    assert named <= judged_clauses()


def test_profiles_hold_only_what_they_can_reach() -> None:
    checks = collect_checks().values()
    registry = load_registry()
    wire, process = set(members(registry, "m0-wire", checks)), set(members(registry, "m0-process", checks))
    assert wire
    assert wire <= process
    assert not any(check.launches or check.alone for check in checks if check.name in wire)


def test_a_frozen_set_is_read_back_and_a_changed_one_refused(tmp_path: Path) -> None:
    assert frozen_checks("m0-wire", tmp_path) is None
    path = freeze({"m0-wire": ["b", "a"]}, tmp_path)
    assert frozen_checks("m0-wire", tmp_path) == frozenset({"a", "b"})
    path.write_text(path.read_text().replace('"b"', '"c"'))
    with pytest.raises(FrozenError, match="digest"):
        frozen_checks("m0-wire", tmp_path)


@pytest.mark.parametrize(
    ("requirement", "repeats", "check", "wanted"),
    [
        ([], None, "conditions::test_x[1]", True),
        ([], ["none"], "conditions::test_x[1]", False),
        ([], ["none"], "events::test_x", True),
        (["M0-W-1330"], ["M0-W-1312/token-*"], "conditions::test_x[1]", True),
        (["M0-W-1330"], ["M0-W-1312/token-*"], "events::test_x", False),
        (["M0-W-1312"], None, "conditions::test_x[1]", True),
        (["M0-W-1312"], ["M0-W-1330"], "conditions::test_x[1]", False),
    ],
)
def test_repeats_under_other_conditions_are_chosen_by_themselves(
    tmp_path: Path, requirement: list[str], repeats: list[str] | None, check: str, wanted: bool
) -> None:
    options = RunOptions(worker_url="http://127.0.0.1:9", report_dir=tmp_path, requirement=requirement, repeats=repeats)
    run = Run.begin(options)
    run.store.close()
    assert run.wanted(check, ["M0-W-1312/token-index"]) is wanted
