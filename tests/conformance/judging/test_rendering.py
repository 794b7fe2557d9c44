"""A worker's way with the text of tokens is found out once, and undone for everybody who reads it."""

from __future__ import annotations

import pytest
from m0_conformance.judging.rendering import PLAIN, Rendering, detect, read_back

KNOWN = [b" baba", b" mibe", b" zubi", b" mebo"]


@pytest.mark.parametrize(
    ("sent", "rendering"),
    [
        ([" baba", " mibe", " zubi", " mebo"], PLAIN),
        (["\u0120baba", "\u0120mibe", "\u0120zubi", "\u0120mebo"], Rendering(stand_ins=True)),
        (["\u0120baba", " \u0120mibe", " \u0120zubi", " \u0120mebo"], Rendering(stand_ins=True, separator=" ")),
        ([" baba", "  mibe", "  zubi", "  mebo"], Rendering(separator=" ")),
        (["baba", "mibe", "zubi", "mebo"], Rendering(lost=" ")),
        (["rara", "lolo"], PLAIN),
    ],
)
def test_what_a_worker_does_is_seen_on_a_known_text(sent: list[str], rendering: Rendering) -> None:
    assert detect(sent, "*", KNOWN) == rendering


def test_one_such_letter_from_an_unknown_model_may_be_a_word() -> None:
    assert detect(["il-\u0120", "abc"], "x") == PLAIN
    assert detect(["\u0120a", "\u0120b"], "x") == Rendering(stand_ins=True)
    assert detect(["\u0120a", "\u0120b"], "say \u0120a") == PLAIN


def test_bytes_are_read_back_across_pieces() -> None:
    shown = Rendering(stand_ins=True)
    assert read_back(["\u0120caf", "\u00c3", "\u00a9", "\u010a"], shown) == [" caf", "", "\u00e9", "\n"]
    assert read_back(["\u0120\u00e9t\u00e9"], shown) == [" \u00e9t\u00e9"]  # only spaces are stand-ins there
    assert read_back(["\u0120a", " \u0120b \u0120c"], Rendering(stand_ins=True, separator=" ")) == [" a", " b c"]
    assert read_back(["a", " b"], PLAIN) == ["a", " b"]
    assert Rendering(lost=" ").worn(" two ") == "two"
