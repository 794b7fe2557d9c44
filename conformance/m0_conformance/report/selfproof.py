"""The kill matrix and the expected failures as the page shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from m0_conformance.report import view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from m0_conformance.report.document import Report
    from m0_conformance.report.view import Json


def ledger(report: Report) -> Json | None:
    """Entries of the expected failures, what went wrong first; None without a file of them."""
    found = report.get("expected_ledger")
    if not found:
        return None
    kinds = ("unexpected", "stale", "unmatched", "expired", "expected")
    return {
        "sentence": view.ledger_sentences(report)[0],
        "entries": [
            {
                "kind": kind,
                "clause": entry["clause"],
                "key": str(entry.get("key") or entry.get("fingerprint") or ""),
                "reason": str(entry.get("reason") or entry.get("hint") or entry.get("message") or ""),
                "until": str(entry.get("until") or ""),
            }
            for kind in kinds
            for entry in found[kind]
        ],
    }


def kill_matrix(report: Report) -> Json | None:
    """The kill matrix with one strip of clauses for each defect; None without one."""
    matrix = report["kill_matrix"]
    if matrix is None:
        return None
    order = {clause["id"]: index for index, (_, clause) in enumerate(view.all_clauses(report))}
    touched = {c for d in matrix["defects"] for c in (*d["kills"], *d["collateral"], *d["failed"])}
    columns = {name: n for n, name in enumerate(sorted(touched, key=lambda name: (order.get(name, len(order)), name)))}
    return {
        **matrix,
        "columns": len(columns),
        "caught": sum(d["caught"] for d in matrix["defects"]),
        "flagged": sum(o["flagged"] for o in matrix["oddities"]),
        "conditional": _conditional(matrix.get("conditional")),
        "record": matrix.get("record", {"caught": [], "missed": []}),
        "defects": [{**defect, "strip": _strip(defect, columns)} for defect in matrix["defects"]],
    }


def _conditional(found: Json | None) -> Json | None:
    """The sample of conditional defects, those that were missed and those argued invisible apart."""
    if not found:
        return None
    seen = [d for d in found["drawn"] if not d["invisible"]]
    return {
        **found,
        "seen": seen,
        "caught": sum(d["caught"] for d in seen),
        "missed": [d for d in seen if not d["caught"]],
        "invisible": [d for d in found["drawn"] if d["invisible"]],
    }


def _strip(defect: Json, columns: Mapping[str, int]) -> Markup:
    kills, failed = set(defect["kills"]), set(defect["failed"])
    kinds = dict.fromkeys(defect["collateral"], "side")
    kinds |= dict.fromkeys(failed - kills - kinds.keys(), "stray")
    kinds |= {name: "kill" if name in failed else "miss" for name in kills}
    rects = Markup("").join(
        Markup('<rect class="{}" x="{}" width="1" height="1"><title>{}</title></rect>').format(
            kind, columns[name], name
        )
        for name, kind in sorted(kinds.items(), key=lambda item: columns[item[0]])
    )
    words = {"kill": "turned red", "miss": "stayed green", "stray": "turned red unasked", "side": "may turn red"}
    label = "; ".join(f"{name} {words[kind]}" for name, kind in kinds.items())
    return Markup('<svg viewBox="0 0 {} 1" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>').format(
        len(columns), label, rects
    )
