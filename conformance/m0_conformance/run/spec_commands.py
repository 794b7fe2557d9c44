"""`m0-conformance spec check` and `spec freeze`: the registry against the spec, the checks and their frozen sets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from m0_conformance.judging.judge import judged_clauses, load_all
from m0_conformance.run.options import GATING_PROFILES
from m0_conformance.spec.check_sets import ANY, Check, freeze, frozen_checks, members
from m0_conformance.spec.coverage import coverage
from m0_conformance.spec.drift import check_file
from m0_conformance.spec.registry import load_registry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def check(against: Path | None, checks: Mapping[str, Check]) -> int:
    """Every hole between registry, checks, judges, frozen sets and (with a file) the spec; 1 when there is any."""
    registry = load_registry()
    load_all()
    found = coverage(registry, {name: item.clauses for name, item in checks.items()}).problems()
    found += [f"judge of an unknown clause: {name}" for name in sorted(judged_clauses() - set(registry.clauses))]
    named = {clause for item in checks.values() for clause in item.clauses}
    found += [f"check of a clause that no judge speaks about: {name}" for name in sorted(named - judged_clauses())]
    for profile in GATING_PROFILES:
        frozen, now = frozen_checks(profile), frozenset(members(registry, profile, checks.values()))
        if frozen is None:
            found.append(f"{profile}: no check set is frozen; run `m0-conformance spec freeze`")
        else:
            found += [f"{profile}: {name} is not in the frozen set" for name in sorted(now - frozen)]
            found += [f"{profile}: {name} is frozen, but there is no such check" for name in sorted(frozen - now)]
    for sentence in found:
        sys.stdout.write(sentence + "\n")
    sys.stdout.write(
        f"{len(registry.requirements)} requirements, {len(registry.clauses)} clauses, {len(checks)} checks; "
        f"{len(found)} complaints; registry {registry.digest[:16]}…\n"
    )
    code = 1 if found else 0
    if against is not None:
        drift, text = check_file(registry, against)
        sys.stdout.write(text.rstrip() + "\n")
        code = max(code, drift)
    return code


def freeze_checks(checks: Mapping[str, Check]) -> int:
    """Write the frozen sets of every gating profile."""
    registry = load_registry()
    sets = {profile: members(registry, profile, checks.values()) for profile in GATING_PROFILES}
    path = freeze({**sets, ANY: sorted(checks)})
    sys.stdout.write(f"{path}\n")
    return 0
