from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from m0_peer.text import StopFinder, texts


def said(pieces: list[bytes], *stops: str) -> list[str]:
    return list(texts(pieces, StopFinder(stops)))


def test_a_character_comes_with_its_last_byte() -> None:
    assert said([b"\xe6", b"\x97", b"\xa5!", b"x"]) == ["", "", "日!", "x"]


def test_a_byte_of_no_character_does_not_block_what_follows() -> None:
    assert said([b"a\xff", b"b"]) == ["a\ufffd", "b"]


def test_a_character_cut_by_the_end_is_dropped() -> None:
    assert said([b"a", b"\xf0\x9f"]) == ["a", ""]


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        (["cd"], ["ab", ""]),
        (["bcde"], ["a", "", ""]),
        (["zz"], ["ab", "cd", "ef"]),
        (["ef", "de"], ["ab", "c", ""]),  # the first to be complete
        (["d", "cd"], ["ab", ""]),  # of those that end together the longest
        (["fz"], ["ab", "cd", "ef"]),  # what might have begun one comes out at the end
    ],
)
def test_stop_strings(stops: list[str], expected: list[str]) -> None:
    assert said([b"ab", b"cd", b"ef"], *stops) == expected


@given(st.lists(st.text("abc", max_size=3), max_size=12), st.lists(st.text("abc", min_size=1, max_size=4), max_size=4))
def test_the_cut_does_not_depend_on_where_tokens_end(parts: list[str], stops: list[str]) -> None:
    whole = "".join(parts)
    got = said([part.encode() for part in parts], *stops)
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    assert "".join(got) == (whole[: min(ends)[1]] if ends else whole)
    assert len(got) <= len(parts)
    if not ends:
        assert len(got) == len(parts)
