from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from m0_worker.http.utf8 import Utf8Buffer

# Whole characters, single bytes and the notorious sequences, glued together at random.
PIECES = st.one_of(
    st.text(max_size=4).map(lambda text: text.encode(errors="ignore")),
    st.binary(max_size=3),
    st.sampled_from(
        [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x80", b"\xe2\x82", b"\xff", b"\xf8"]
    ),
)


def feed(data: bytes, cuts: list[int]) -> list[str]:
    buffer = Utf8Buffer()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [buffer.feed(data[left:right]) for left, right in pairwise(edges)]


@given(st.lists(PIECES, max_size=8).map(b"".join), st.lists(st.integers(0, 1 << 16), max_size=10))
def test_any_cutting_gives_the_same_text_and_only_the_incomplete_end_is_missing(data: bytes, cuts: list[int]) -> None:
    text = "".join(feed(data, cuts))
    whole = data.decode(errors="replace")
    assert whole in (text, text + "\ufffd")
    if whole != text:  # something was held back: it must be the beginning of a character and nothing else
        assert any((data + end).decode(errors="replace").startswith(text) for end in (b"\x80", b"\x90", b"\xbf"))
        assert "".join(feed(data + b"!", cuts)) == text + "\ufffd!"


@given(st.text(min_size=1, max_size=20))
def test_a_character_appears_with_its_last_byte(text: str) -> None:
    buffer = Utf8Buffer()
    for character in text:
        data = character.encode()
        assert [buffer.feed(bytes([byte])) for byte in data] == [""] * (len(data) - 1) + [character]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        # Unicode 15, table 3-8 and its neighbours: one U+FFFD for each maximal subpart.
        (b"\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", "a\ufffd\ufffd\ufffdb\ufffdc\ufffd\ufffdd"),
        (b"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82A", "\ufffd" * 8 + "A"),
        (b"\xed\xa0\x80\xed\xbf\xbf\xed\xafA", "\ufffd" * 8 + "A"),
        (b"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", "\ufffd" * 5 + "A\ufffd\ufffdB"),
        (b"\xe2\x82 after", "\ufffd after"),
        (b"\xed\xa0", "\ufffd\ufffd"),  # no character, whatever follows
    ],
)
def test_invalid_bytes_become_one_replacement_for_each_maximal_subpart(data: bytes, text: str) -> None:
    assert "".join(feed(data, [])) == text
    assert "".join(feed(data, list(range(len(data))))) == text
