"""The report of a run: what is drawn from a comparison, and that nothing in it reaches outside or breaks the page."""

from __future__ import annotations

import re
import zlib
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from m0_parity import commands, report
from m0_parity.compare import IncomparableError, compare
from m0_parity.divergence import Divergence
from m0_parity.llamacpp import ReferenceUnavailableError
from m0_parity.names import LOGITS
from m0_parity.recording import Recording, Request, Rows
from m0_parity.report import heatmap, view
from m0_parity.rungs.base import Row

if TYPE_CHECKING:
    from pathlib import Path

REFERENCE = {"engine": "llama.cpp", "package": "x", "ggml": "1"}
NASTY = '<script src="http://evil.example/x.js">&'


def recording(engine: str, error: float) -> Recording:
    """Three checkpoints in each of two layers; from layer 1 position 3 on ``error`` is added."""
    rng, positions = np.random.default_rng(0), np.arange(6)
    request = Request("first", [5, 6, 7, 8, 9, 3], 4)
    places = [(-1, "embd"), *((layer, name) for layer in range(2) for name in ("attn_norm", "kqv_out", "l_out"))]
    for place in [*places, (-1, LOGITS)]:
        values = rng.standard_normal((6, 12)).astype(np.float32)
        if place >= (1, "kqv_out") or place == (-1, LOGITS):
            values[3:] += np.float32(error) * rng.standard_normal((3, 12)).astype(np.float32)
        elif place[0] == 0 and error:
            values *= np.float32(1 + 1e-6)
        request.rows[place] = Rows(positions, values, 12)
    made = Recording({"engine": engine, "model": "m.gguf", "settings": {"kv": "f32"}}, {"first": request})
    made.vocabulary = [NASTY] * 12
    return made


def row(error: float, *, divergence: bool = True) -> Row:
    result = compare(recording("llama.cpp", 0), recording("m0-worker", error))
    found = Divergence((1, "kqv_out"), "first", 3, 1.0, 0.5, 0.9, confirmed=True, diagnosis="a mask <ends> elsewhere")
    return Row("run", "m", result.worst().nmse, 1e-10, "note", result, found if divergence else None)


def document(*rows: Row, tmp_path: Path) -> dict[str, Any]:
    path = report.save(report.document("run", rows, dict(REFERENCE), 1.0), tmp_path / "parity.json")
    return report.load(path)  # as `report` sees it: through JSON


class Outline(HTMLParser):
    """Tags, attributes and text of a page; unclosed or crossing tags are errors."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " if tag in {"td", "th"} else ""

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_names_the_first_divergence_and_marks_it_once(tmp_path: Path) -> None:
    outline = Outline(report.page(document(row(1e-2), tmp_path=tmp_path)))
    said = "kqv_out of layer 1, what attention gathers, position 3 of request first. A mask <ends> elsewhere."
    assert said in " ".join(outline.text.split())
    marked = [a for _, a in outline.tags if "first" in (a.get("class") or "").split()]
    assert len(marked) == 1
    assert (marked[0]["title"] or "").startswith("kqv_out of layer 1: NMSE ")
    assert sum(a.get("class") == "ring" for _, a in outline.tags) == 1
    assert "yes, it goes wrong from equal inputs" in outline.text


def test_two_recordings_have_their_first_step_marked(tmp_path: Path) -> None:
    outline = Outline(report.page(document(row(1e-2, divergence=False), tmp_path=tmp_path)))
    marked = [a for _, a in outline.tags if "first" in (a.get("class") or "").split()]
    assert len(marked) == 1
    assert sum(a.get("class") == "ring" for _, a in outline.tags) == 1
    equal = Outline(report.page(document(row(0.0, divergence=False), tmp_path=tmp_path)))
    assert not any("first" in (a.get("class") or "").split() for _, a in equal.tags)


def test_page_needs_nothing_from_outside_and_runs_nothing(tmp_path: Path) -> None:
    page = report.page(document(row(1e-2), tmp_path=tmp_path))
    outline = Outline(page)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in outline.tags}
    assert all(
        (a.get("src") or "data:").startswith("data:image/png;base64,") or "src" not in a for _, a in outline.tags
    )
    assert "url(" not in page
    assert "@import" not in page
    assert NASTY in outline.text  # a token's text, as text


def test_heat_map_says_in_words_what_it_shows(tmp_path: Path) -> None:
    outline = Outline(report.page(document(row(1e-2), tmp_path=tmp_path)))
    cells = [a for tag, a in outline.tags if tag == "span" and (a.get("class") or "").startswith("v ")]
    assert len(cells) == 8  # embd, three checkpoints in two layers, logits
    assert all("NMSE" in (a["title"] or "") for a in cells)
    over = [a for a in cells if "over" in (a["class"] or "")]
    assert all("above the bound" in (a["title"] or "") for a in over)
    assert len(over) == 3
    assert [tag for tag, a in outline.tags if tag == "svg" and a.get("role") != "img"] == []


def test_page_of_a_clean_run(tmp_path: Path) -> None:
    outline = Outline(report.page(document(row(0, divergence=False), tmp_path=tmp_path)))
    assert "Equal within every bound" in outline.text
    assert not [a for _, a in outline.tags if a.get("class") == "ring"]
    assert outline.text.count("=") > 8  # equal bit for bit, cell by cell


def test_origins_and_token_ids_are_told(tmp_path: Path) -> None:
    text = " ".join(Outline(report.page(document(row(1e-2), tmp_path=tmp_path))).text.split())
    assert "engine llama.cpp m0-worker" in text
    assert "prompt 5 6 7 8" in text
    assert "decoding 9 3" in text
    assert "Position 3 (first divergence, last prompt token)" in re.sub(r", (first flip|largest[^,)]*)", "", text)


def test_rows_without_a_comparison_and_rows_not_tried(tmp_path: Path) -> None:
    rows = Row("T1", "Q4_0", 0, 0, "values"), Row("T4", "cuda", 0, 0, "no device", ran=False), row(1e-2)
    outline = Outline(report.page(document(*rows, tmp_path=tmp_path)))
    assert "1 of 2 out of bounds" in outline.text
    assert "not tried" in outline.text


@pytest.mark.parametrize(
    ("nmse", "shade"),
    [
        *((0, "eq"), (1e-20, "b0"), (9e-11, "b5"), (1e-10, "b5")),
        *((1.1e-10, "a0"), (1, "a5"), (1e9, "a5"), (float("inf"), "a5"), (float("nan"), "a5")),
    ],
)
def test_shades_change_side_at_the_bound(nmse: float, shade: str) -> None:
    assert view.Scale(1e-10).shade(nmse) == shade


def test_png_holds_the_levels() -> None:
    levels = np.array([[heatmap.EQUAL, -160, -101], [-99, 0, 20]])
    raw = heatmap.png(levels, 1e-10)
    palette = raw[raw.index(b"PLTE") + 4 :]
    start = raw.index(b"IDAT")
    size = int.from_bytes(raw[start - 4 : start], "big")
    rows = np.frombuffer(zlib.decompress(raw[start + 4 : start + 4 + size]), np.uint8).reshape(2, 4)
    assert not rows[:, 0].any()  # no filter
    seen = [tuple(palette[3 * i : 3 * i + 3]) for i in rows[:, 1:].ravel().tolist()]
    assert seen == [heatmap.colour(level, 1e-10) for level in levels.ravel().tolist()]
    assert seen[0] == (255, 255, 255)
    assert seen[2][2] > seen[2][0]  # below the bound: blue
    assert seen[3][2] < seen[3][0]  # above it: not


def test_picture_for_documents(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures are an optional extra")
    results = document(row(1e-2), tmp_path=tmp_path)
    heatmap.figure(results, tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no heat map of 'other'"):
        heatmap.figure(results, tmp_path / "map.png", "other")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "parity.json"
    path.write_text('{"schema": 1, "rows": []}', encoding="utf-8")
    with pytest.raises(IncomparableError, match="schema 2"):
        report.load(path)


def test_a_rung_that_needs_no_llamacpp_is_reported_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> dict[str, Any]:
        raise ReferenceUnavailableError("no xllamacpp here")

    monkeypatch.setattr(commands, "provenance", absent)
    rows = [row(0.0, divergence=False)]
    page = report.page(report.document("ladder", rows, commands._reference(), 1.0))
    assert "none (no xllamacpp here)" in page
