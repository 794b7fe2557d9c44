"""The matrix of a self-test: its rows, its gates, and several shards of one put together."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from m0_conformance.saboteur.catalogue import catalogue
from m0_conformance.saboteur.pairs import conditional, invisible, pairs
from m0_conformance.spec.kill_matrix import counts, recorded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from m0_conformance.saboteur.result import Result

NAME = "kill_matrix.json"


def as_json(
    base: Result, results: Sequence[Result], reasons: dict[str, str], seconds: float, seed: int
) -> dict[str, Any]:
    """report.json's `kill_matrix`."""
    return {
        "baseline": "green" if base.good else "red",
        "duration_s": round(seconds, 1),
        "defects": [
            {
                "id": result.defect.name,
                "what": result.defect.about,
                "source": result.defect.source or None,
                "kills": sorted(result.defect.kills),
                "collateral": sorted(result.defect.collateral),
                "failed": sorted(result.failed),
                "caught": result.good,
            }
            for result in results
            if not result.defect.oddity and not result.defect.condition
        ],
        "oddities": [
            {
                "id": result.defect.name,
                "what": result.defect.about,
                "failed": sorted(result.failed),
                "flagged": not result.good,
            }
            for result in results
            if result.defect.oddity
        ],
        "conditional": {
            "catalogue": len(conditional()),
            "left_out": sum(bool(pair.cannot) for pair in pairs()),
            "seed": seed,
            "drawn": [row_of(result) for result in results if result.defect.condition],
        },
        "unfalsified": [{"clause": name, "reason": reason} for name, reason in sorted(reasons.items())],
    }


def row_of(result: Result) -> dict[str, Any]:
    """A conditional defect that was drawn."""
    name = result.defect.name
    return {
        "id": name,
        "what": result.defect.about,
        "kills": sorted(result.defect.kills),
        "failed": sorted(result.failed),
        "acted": result.acted,
        "caught": result.good,
        "invisible": None if result.good else invisible(name) or None,
    }


def conclude(problems: Sequence[str], words: Sequence[str], matrix: dict[str, Any], only: Sequence[str] = ()) -> int:
    """Print the gates; the exit code.

    A conditional defect that is missed is shown, and no more; one that a published matrix says was caught, and one that
    was asked for by name in `only`, must be caught.
    """
    numbers = counts(matrix)
    for line in (*(f"GAP     {problem}" for problem in problems), *words):
        write(line)
    before = recorded()
    missed = [row for row in matrix["conditional"]["drawn"] if not row["caught"]]
    lost = [row["id"] for row in missed if before.get(row["id"])]
    for name in lost:
        write(f"LOST    {name}: it was caught when the matrix was published")
    lost += [row["id"] for row in missed if row["id"] in only]
    write(
        f"kills {numbers['killed']}/{numbers['defects']} seeded defects, "
        f"{numbers['conditional_caught']}/{numbers['conditional_drawn']} conditional ones "
        f"(seed {matrix['conditional']['seed']}, of {numbers['conditional_catalogue']}), "
        f"{numbers['benign_flagged']}/{numbers['benign']} oddities flagged, "
        f"{len(matrix['unfalsified'])} clauses unfalsified with a reason, {matrix['duration_s']:.0f} s"
    )
    exact = numbers["killed"] == numbers["defects"] and numbers["benign_flagged"] == 0
    return 0 if matrix["baseline"] == "green" and exact and not lost and not problems else 1


def merged(folders: Sequence[Path]) -> dict[str, Any]:
    """The results of all shards of one self-test as if one machine had run it.

    Raises:
        ValueError: a shard is missing, there twice, or of another suite, seed or choice than the first.
    """
    shards = [json.loads((folder / NAME).read_text(encoding="utf-8")) for folder in folders]
    first = shards[0]
    for folder, shard in zip(folders, shards, strict=True):
        for key in ("files", "only", "asked"):
            if shard[key] != first[key]:
                raise ValueError(f"{folder / NAME}: its {key} differ from those of {folders[0] / NAME}")
    numbers = sorted(tuple(shard["shard"]) for shard in shards)
    wanted = [(number, first["shard"][1]) for number in range(1, first["shard"][1] + 1)]
    if numbers != wanted:
        said = ", ".join(f"{number}/{of}" for number, of in numbers)
        raise ValueError(f"shards 1 to {first['shard'][1]} make a whole, once each; these are {said}")
    matrices = [shard["matrix"] for shard in shards]
    order = {name: place for place, name in enumerate([*catalogue(), *sorted(conditional())])}

    def rows(lists: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
        found = [row for rows in lists for row in rows]
        return sorted(found, key=lambda row: order.get(row["id"], len(order)))

    whole = {
        **matrices[0],
        "baseline": "green" if all(matrix["baseline"] == "green" for matrix in matrices) else "red",
        "duration_s": max(matrix["duration_s"] for matrix in matrices),
        "defects": rows([matrix["defects"] for matrix in matrices]),
        "oddities": rows([matrix["oddities"] for matrix in matrices]),
        "conditional": {
            **matrices[0]["conditional"],
            "drawn": rows([matrix["conditional"]["drawn"] for matrix in matrices]),
        },
    }
    words = [line for shard in shards for line in shard["words"]]
    return {**first, "shard": [1, 1], "matrix": whole, "words": words}


def words_of(base: Result, results: Sequence[Result]) -> list[str]:
    """A line for each that is not as it should be."""
    kinds = {True: "FLAGGED", False: "MISSED "}
    lines = [f"{kinds[one.defect.oddity]} {one.defect.name}: {one.words()}" for one in results if not one.good]
    return lines if base.good else [*lines, f"BASELINE RED: {base.words()}"]


def write(line: str) -> None:
    """A line on stdout, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
