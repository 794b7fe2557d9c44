"""The catalogue of conditional defects: its size, its rules, its samples, and shards put together again."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import pytest
from m0_conformance.saboteur import rows as matrix
from m0_conformance.saboteur.catalogue import Truth, catalogue
from m0_conformance.saboteur.pairs import conditional, find_conditional, pairs, rules, sample, without
from m0_conformance.saboteur.result import Result
from m0_conformance.saboteur.rows import merged
from m0_conformance.saboteur.selftest import add_arguments, chosen_kinds, shard
from m0_conformance.spec.kill_matrix import recorded, with_record

if TYPE_CHECKING:
    from pathlib import Path


def test_there_are_a_thousand_and_every_defect_has_some_or_a_reason() -> None:
    plain = {name for name, kind in catalogue().items() if not kind.oddity}
    grouped = {pair.action.name for pair in pairs()}
    assert len(conditional()) >= 1000
    assert grouped | set(without()) == plain
    assert not grouped & set(without())
    assert {pair.action.name for pair in conditional().values()} == grouped, "each group's defect can act somewhere"


def test_every_rule_leaves_something_out() -> None:
    left_out = {pair.cannot for pair in pairs() if pair.cannot}
    assert left_out == {rule["why"] for rule in rules()["cannot"]}


def test_a_conditional_defect_is_found_by_its_name() -> None:
    found = find_conditional("index-gap@turn=later")
    assert found is not None
    assert found.place() == "areas/events/defects.py"
    assert find_conditional("index-gap") is None
    assert find_conditional("no-such@turn=later") is None
    with pytest.raises(KeyError, match="no level 'noon' of turn"):
        find_conditional("index-gap@turn=noon")


def test_a_sample_is_its_seeds() -> None:
    drawn = [pair.name for pair in sample(150, 1)]
    assert len(set(drawn)) == 150
    assert drawn == [pair.name for pair in sample(150, 1)]
    assert len(set(drawn) & {pair.name for pair in sample(150, 2)}) < 75
    assert len(sample(10**6, 1)) == len(conditional())


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--seed", "3", "--conditional", "20", *words])


def test_shards_are_the_whole_once() -> None:
    whole = [kind.name for kind in chosen_kinds(options())]
    parts = [[kind.name for kind in chosen_kinds(options("--shard", f"{n}/3"))] for n in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(whole)
    assert sum("@" in name for name in whole) == 20
    with pytest.raises(ValueError, match="parts are 1/3 to 3/3"):
        shard("4/3")
    with pytest.raises(ValueError, match="no such defect: nobody"):
        chosen_kinds(options("--only", "nobody", "--only", "index-gap@turn=later"))


# ---- what counts as caught ----------------------------------------------------------------------------------------


def result(*failed: str, acted: bool = True, trouble: str = "") -> Result:
    kind = find_conditional("stop-ignored@after=cancel")
    assert kind is not None
    return Result(kind, failed=set(failed), acted=acted, trouble=trouble)


def test_any_of_its_clauses_is_a_catch_and_another_clause_is_none() -> None:
    assert result("M0-W-1422/stops").good
    assert result("M0-W-1330/next-job").good, "a clause of the condition"
    assert not result("M0-W-1422/across-tokens").good, "collateral alone"
    assert not result("M0-W-1422/stops", "M0-W-1320/status").good
    assert not result("M0-W-1422/stops", trouble="no report").good
    assert "nobody was lied to" in result(acted=False).words()
    assert "also red: M0-W-1320/status" in result("M0-W-1422/stops", "M0-W-1320/status").words()


def part(number: int, of: int, *names: str, **other: Any) -> dict[str, Any]:
    made = [Result(kind, failed=set(kind.kills)) for name in names if (kind := catalogue().get(name))]
    rows = matrix.as_json(Result(Truth), [*made, *([result()] if number == 1 else [])], {}, 10.0 * number, 3)
    said = {"only": [], "asked": {"seed": 3}, "files": {"a": "b"}, "words": [f"words {number}"]}
    return {"matrix": rows, "shard": [number, of], **said, **other}


def write(folder: Path, *parts: dict[str, Any]) -> list[Path]:
    found = []
    for place, value in enumerate(parts):
        (folder / str(place)).mkdir()
        (folder / str(place) / matrix.NAME).write_text(json.dumps(value))
        found.append(folder / str(place))
    return found


def test_shards_together_are_one_result(tmp_path: Path) -> None:
    whole = merged(write(tmp_path, part(2, 2, "index-from-one"), part(1, 2, "index-gap", "no-started")))
    assert {row["id"] for row in whole["matrix"]["defects"]} == {"index-gap", "index-from-one", "no-started"}
    assert [row["id"] for row in whole["matrix"]["conditional"]["drawn"]] == ["stop-ignored@after=cancel"]
    assert whole["matrix"]["duration_s"] == 20.0
    assert whole["shard"] == [1, 1]
    assert sorted(whole["words"]) == ["words 1", "words 2"]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([part(1, 2)], "shards 1 to 2 make a whole, once each; these are 1/2"),
        ([part(1, 2), part(1, 2)], "these are 1/2, 1/2"),
        ([part(1, 2), part(2, 2, files={})], "its files differ"),
        ([part(1, 2), part(2, 2, asked={"seed": 4})], "its asked differ"),
    ],
)
def test_shards_that_do_not_belong_together_are_refused(
    tmp_path: Path, parts: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        merged(write(tmp_path, *parts))


# ---- the record ---------------------------------------------------------------------------------------------------


def test_a_miss_is_shown_and_a_loss_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missed = part(1, 1)["matrix"]
    assert matrix.conclude([], ["MISSED"], missed) == 0
    assert "0/1 conditional ones (seed 3, of " in capsys.readouterr().out
    assert matrix.conclude([], [], missed, ["stop-ignored@after=cancel"]) == 1
    monkeypatch.setattr(matrix, "recorded", lambda: {"stop-ignored@after=cancel": True})
    assert matrix.conclude([], [], missed) == 1
    assert "LOST    stop-ignored@after=cancel" in capsys.readouterr().out
    published = tmp_path / "kill_matrix.json"
    whole = with_record(missed, {"index-gap@turn=later": True, "stop-ignored@after=cancel": True})
    published.write_text(json.dumps({"matrix": whole}))
    assert recorded(published) == {"index-gap@turn=later": True, "stop-ignored@after=cancel": False}
