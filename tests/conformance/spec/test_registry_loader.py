"""Each way to break the registry is refused with a sentence that names file, key and fault."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from m0_conformance.spec.registry import RegistryError, load_registry, read_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXECUTE = "areas/requests/clauses.toml"
HEADS = "spec/requirements.toml"


def edit(spec: Path, name: str, old: str, new: str) -> None:
    path = spec / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def append(spec: Path, name: str, text: str) -> None:
    with (spec / name).open("a") as file:
        file.write(text)


def complaints(spec: Path) -> tuple[str, ...]:
    with pytest.raises(RegistryError) as caught:
        read_registry(spec)
    return caught.value.problems


def test_a_copy_reads_like_the_original(spec: Path) -> None:
    copy = read_registry(spec)
    assert copy.digest == load_registry().digest
    assert list(copy.clauses) == list(load_registry().clauses)


def test_line_ends_do_not_change_the_digest(spec: Path) -> None:
    path = spec / EXECUTE
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_registry(spec).digest == load_registry().digest


def test_any_changed_statement_changes_the_digest(spec: Path) -> None:
    edit(spec, EXECUTE, "32769 is refused", "32770 is refused")
    assert read_registry(spec).digest != load_registry().digest


CLAUSE = '[M0-W-1300.new-one]\ntext = "Something that can be seen."\nobservable = "wire"\n'

APPENDED = {
    "unknown key of a clause": (CLAUSE + 'judge = "x"\n', "M0-W-1300/new-one has the unknown key 'judge'"),
    "a field outside a clause": (
        '[M0-W-1300]\nlevels = "MUST"\n',
        "M0-W-1300 has levels 'MUST', which is not type object",
    ),
    "missing text": ('[M0-W-1300.new-one]\nobservable = "wire"\n', "M0-W-1300/new-one needs `text`"),
    "missing observable": (
        '[M0-W-1300.new-one]\ntext = "Something that can be seen."\n',
        "M0-W-1300/new-one needs `observable`",
    ),
    "unknown level": (CLAUSE + 'level = "WILL"\n', "has level 'WILL'; known: MUST, SHOULD, MAY"),
    "unknown status": (CLAUSE + 'status = "open"\n', "has status 'open'"),
    "unknown basis": (CLAUSE + 'level_basis = "guess"\n', "has level_basis 'guess'"),
    "deferred without a reason": (CLAUSE + 'status = "deferred"\n', "is deferred and must say why in `reason`"),
    "active with a reason": (CLAUSE + 'reason = "none"\n', "is active and must not give a `reason`"),
    "active but whitebox": (CLAUSE.replace('"wire"', '"whitebox"'), "is active, but seen only from inside"),
    "whitebox but on the wire": (
        CLAUSE + 'status = "whitebox"\nreason = "inside"\n',
        "is whitebox, but observable is wire",
    ),
    "active document": (CLAUSE.replace('"wire"', '"document"'), "rests on a document"),
    "disputed without a reading": (
        CLAUSE + 'status = "disputed"\nreason = "open"\n',
        "is disputed and must name its reading",
    ),
    "deferred in a gating profile": (
        CLAUSE + 'status = "deferred"\nreason = "later"\nprofile = "m0-wire"\n',
        "must be deferred exactly when its profile is m1-preview",
    ),
    "active in the preview": (CLAUSE + 'profile = "m1-preview"\n', "must be deferred exactly when"),
    "unknown profile": (CLAUSE + 'profile = "m2"\n', "has profile 'm2'; known: m0-wire, m0-process"),
    "unknown reading": (CLAUSE + 'readings = ["E-NONE"]\n', "names the unknown reading 'E-NONE'"),
    "a string for a list": (CLAUSE + 'readings = "E-FRAME"\n', "has readings 'E-FRAME', which is not type array"),
    "reading named twice": (
        CLAUSE + 'readings = ["E-FRAME", "E-FRAME"]\n',
        "has readings ['E-FRAME', 'E-FRAME'], which is not uniqueItems True",
    ),
    "unknown dependency": (CLAUSE + 'depends_on = ["M0-W-1300/nothing"]\n', "depends on the unknown clause"),
    "dependency on itself": (CLAUSE + 'depends_on = ["M0-W-1300/new-one"]\n', "M0-W-1300/new-one depends on itself"),
    "inactive dependency": (
        CLAUSE + 'depends_on = ["M0-W-1350/names"]\n',
        "depends on M0-W-1350/names, which is not active",
    ),
    "no evidence at all": (CLAUSE + "min_evidence = 0\n", "has min_evidence 0, which is not minimum 1"),
    "truth as evidence": (CLAUSE + "min_evidence = true\n", "has min_evidence True, which is not type integer"),
    "name in capitals": (CLAUSE.replace("new-one", "NewOne"), "M0-W-1300/NewOne needs a name like ^[a-z]"),
    "the same clause twice": (CLAUSE + CLAUSE, "is no valid TOML"),
    "an ID the spec does not have": (
        CLAUSE.replace("1300", "1303"),
        "M0-W-1303 has no table in spec/requirements.toml",
    ),
}


@pytest.mark.parametrize(("text", "expected"), APPENDED.values(), ids=APPENDED.keys())
def test_a_bad_table_is_refused(spec: Path, text: str, expected: str) -> None:
    append(spec, EXECUTE, "\n" + text)
    found = complaints(spec)
    assert any(expected in problem for problem in found), found
    assert all(EXECUTE in problem or problem.startswith("areas: ") for problem in found)


def test_no_complaint_about_the_same_table_without_its_fault(spec: Path) -> None:
    append(spec, EXECUTE, "\n" + CLAUSE)
    assert "M0-W-1300/new-one" in read_registry(spec).clauses


def test_a_title_must_be_the_headings(spec: Path) -> None:
    edit(spec, HEADS, 'title = "Event Types"', 'title = "Kinds of Events"')
    assert complaints(spec) == (
        f"{HEADS}: M0-W-1310 has title 'Kinds of Events', the spec's heading says 'Event Types'",
    )


def test_an_unknown_scope_is_refused(spec: Path) -> None:
    edit(spec, HEADS, 'scope = "M0"', 'scope = "M2"')
    assert complaints(spec) == (f"{HEADS}: M0-SYS-2.2.1 has scope 'M2'; known: M0, M0-opt, M1, dead",)


def test_an_unknown_key_of_a_requirement_is_refused(spec: Path) -> None:
    edit(spec, HEADS, 'title = "Event Types"', 'title = "Event Types"\nparent = "WORK-3050"')
    assert any("M0-W-1310 has the unknown key 'parent'" in problem for problem in complaints(spec))


def test_a_clause_in_two_areas_is_refused(spec: Path) -> None:
    append(spec, "areas/text/clauses.toml", '\n[M0-W-1300.streams]\ntext = "Said twice."\nobservable = "wire"\n')
    assert complaints(spec) == (
        "areas/text/clauses.toml: M0-W-1300/streams is already in areas/streaming/clauses.toml",
    )


def test_a_requirement_in_no_file_is_missed(spec: Path) -> None:
    edit(spec, HEADS, "[M0-W-1500]", "[M0-W-1599]")
    found = complaints(spec)
    assert f"{HEADS}: M0-W-1500 is a requirement of the spec, but no table accounts for it" in found
    assert f"areas/events/clauses.toml: M0-W-1500 has no table in {HEADS}" in found


def test_a_requirement_without_an_active_clause_says_why(spec: Path) -> None:
    edit(spec, HEADS, 'reason = "Integer codes between', '# reason = "')
    found = complaints(spec)
    assert any("M0-W-1501 has no active clause and must say why" in problem for problem in found)


def test_a_requirement_without_a_clause_is_refused(spec: Path) -> None:
    edit(spec, "areas/process/clauses.toml", "[M0-W-1702.cmake]", "[M0-W-1701.cmake]")
    assert f"{HEADS}: M0-W-1702 has no clause" in complaints(spec)


def test_a_retired_id_never_comes_back(spec: Path) -> None:
    append(spec, "spec/retired.toml", '"M0-W-1300/prompt-max" = "merged"\n')
    assert complaints(spec) == (f"{EXECUTE}: M0-W-1300/prompt-max is a retired id; ids are never reused",)


def test_the_lock_must_be_the_file_the_passages_came_from(spec: Path) -> None:
    edit(spec, "spec/SPEC.lock.toml", "lines = 2565", "lines = 2566")
    assert complaints(spec) == ("spec/SPEC.lock.toml: lines is 2566, but spec/passages.json was made from 2565",)


def _no_stance(spec: Path) -> None:
    edit(spec, "spec/readings.toml", 'stance = "deviation"', 'stance = "forbidden"')


def _no_strict(spec: Path) -> None:
    edit(spec, "spec/readings.toml", 'refused = { stance = "strict", text = "answers 400" }', "")


def _bad_default(spec: Path) -> None:
    edit(spec, "spec/readings.toml", 'default = "refused"', 'default = "off"')


def _bad_name(spec: Path) -> None:
    append(spec, "spec/readings.toml", '\n[E-new]\ntopic = "x"\nproblem = "y"\nreading = "z"\n')


def _lost_profile(spec: Path) -> None:
    edit(spec, "spec/profiles.toml", 'next = "m0-process"', 'next = "m0-more"')


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_no_stance, "E-FRAME/variants/json-type has stance 'forbidden'; known: strict, lenient, deviation"),
        (_no_strict, "E-TOPKMAX has no variant that strict mode accepts"),
        (_bad_default, "E-TOPKMAX has default 'off', which is no strict variant of it"),
        (_bad_name, "E-new needs a name like ^E-[A-Z0-9]+$"),
        (_lost_profile, "m0-wire names the unknown profile 'm0-more'"),
    ],
    ids=["stance", "no strict variant", "default", "name", "profile"],
)
def test_bad_readings_and_profiles_are_refused(spec: Path, damage: Callable[[Path], None], expected: str) -> None:
    damage(spec)
    assert any(expected in problem for problem in complaints(spec))


def test_files_that_cannot_be_read_are_named(spec: Path) -> None:
    (spec / "spec/readings.toml").unlink()
    assert "readings.toml: cannot be read" in complaints(spec)[0]


def test_broken_json_is_named(spec: Path) -> None:
    (spec / "spec/passages.json").write_text("{")
    assert "passages.json: is no valid JSON" in complaints(spec)[0]


def test_all_complaints_come_at_once(spec: Path) -> None:
    edit(spec, HEADS, 'title = "Event Types"', 'title = "Kinds"')
    append(spec, "areas/logs/clauses.toml", "\n[M0-W-9999]\n")
    passages = json.loads((spec / "spec/passages.json").read_text())
    assert len(passages["requirements"]) == 98
    found = complaints(spec)
    assert len(found) == 2
    assert str(RegistryError(list(found))).count("\n") == 2
