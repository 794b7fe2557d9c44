"""`m0-conformance spec check` and `spec publish`: registry, checks, judges and defects fit each other and the spec."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from m0_conformance.judging.judge import judged_clauses, load_all
from m0_conformance.run.options import GATING_PROFILES
from m0_conformance.saboteur.catalogue import catalogue
from m0_conformance.spec.check_sets import ANY, Check, freeze, frozen_checks, members
from m0_conformance.spec.coverage import coverage
from m0_conformance.spec.drift import check_file
from m0_conformance.spec.kill_matrix import publish as write_matrix
from m0_conformance.spec.kill_matrix import recorded, with_record
from m0_conformance.spec.registry import load_registry
from m0_conformance.spec.seal import files, seal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from m0_conformance.spec.requirements import Registry


def holes(registry: Registry, checks: Mapping[str, Check]) -> list[str]:
    """What is promised and not tested, judged or proven, and what dangles; a sentence each."""
    load_all()
    kinds = [kind for kind in catalogue().values() if not kind.oddity]
    kills, collateral = ({kind.name: getattr(kind, key) for kind in kinds} for key in ("kills", "collateral"))
    found = coverage(registry, {name: item.clauses for name, item in checks.items()}, kills, collateral).problems()
    found += [f"judge of an unknown clause: {name}" for name in sorted(judged_clauses() - set(registry.clauses))]
    named = {clause for item in checks.values() for clause in item.clauses}
    return found + [
        f"check of a clause that no judge speaks about: {name}" for name in sorted(named - judged_clauses())
    ]


def check(against: Path | None, checks: Mapping[str, Check]) -> int:
    """Every hole, the frozen sets, and (with a file) the spec; 1 when there is anything to complain of."""
    registry = load_registry()
    found = holes(registry, checks)
    for profile in GATING_PROFILES:
        frozen, now = frozen_checks(profile) or frozenset(), frozenset(members(registry, profile, checks.values()))
        found += [f"{profile}: {name} is not in the frozen set; run `spec publish`" for name in sorted(now - frozen)]
        found += [f"{profile}: {name} is frozen, but there is no such check" for name in sorted(frozen - now)]
    say(*found)
    say(
        f"{len(registry.requirements)} requirements, {len(registry.clauses)} clauses, {len(checks)} checks; "
        f"{len(found)} complaints; registry {registry.digest[:16]}…"
    )
    code = 1 if found else 0
    if against is not None:
        drift, text = check_file(registry, against)
        say(text.rstrip())
        code = max(code, drift)
    return code


def publish(checks: Mapping[str, Check], result: Path) -> int:
    """Freeze the check sets, and seal the suite with the self-test's result; 1 where something is to be done first."""
    registry = load_registry()
    if found := holes(registry, checks):
        say(*found, "not published: mend these first; `m0-conformance explain CLAUSE` names the files")
        return 1
    sets = {profile: members(registry, profile, checks.values()) for profile in GATING_PROFILES}
    say(f"frozen: {len(checks)} checks in {freeze({**sets, ANY: sorted(checks)}).name}")
    now = files()
    value, refusal = sealable(result, now)
    if refusal:
        say(f"not sealed: {refusal}; until then reports say that the suite is unverified")
        return 1
    write_matrix(with_record(value["matrix"], recorded()), seal(now))
    say("sealed: the next reports carry this kill matrix")
    return 0


def sealable(result: Path, now: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The self-test's result, and what stands in the way of publishing it, with the cure; "" where nothing does."""
    again = "run `m0-conformance selftest` (all defects, some minutes), then `spec publish` again"
    if not result.exists():
        return {}, f"there is no {result}; {again}"
    value = json.loads(result.read_text(encoding="utf-8"))
    matrix, then = value["matrix"], value["files"]
    if value["only"]:
        return value, f"{result} is of {len(value['only'])} defects only; {again}"
    if value.get("shard", [1, 1]) != [1, 1]:
        which = "/".join(map(str, value["shard"]))
        return value, f"{result} is shard {which} of a run; `selftest --merge` all of them, then `spec publish`"
    if changed := sorted(name for name in {*then, *now} if then.get(name) != now.get(name)):
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        return value, f"since that self-test {', '.join(changed[:3])}{more} changed; {again}"
    bad = [row["id"] for row in matrix["defects"] if not row["caught"]]
    bad += [row["id"] for row in matrix["oddities"] if row["flagged"]]
    if matrix["baseline"] != "green":
        bad.insert(0, "truth")
    if bad:
        return (
            value,
            f"not exact: {', '.join(bad[:5])}; `m0-conformance selftest --only {bad[0]}` says why; mend, {again}",
        )
    return value, ""


def say(*sentences: str) -> None:
    """Lines on stdout."""
    for sentence in sentences:
        sys.stdout.write(sentence + "\n")
