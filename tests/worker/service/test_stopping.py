from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from m0_worker.stopping import StopMatcher

LETTERS = st.text(alphabet="abé", min_size=0, max_size=6)


def feed(stops: list[str], chunks: list[str]) -> tuple[str, str | None]:
    matcher = StopMatcher(stops)
    out = ""
    for chunk in chunks:
        out += matcher.feed(chunk)
        if matcher.matched is not None:
            return out, matcher.matched
    return out + matcher.flush(), None


def first_complete(stops: list[str], text: str) -> tuple[str, str | None]:
    """By definition: read one character at a time until the text ends with a stop string; the longest one counts."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(st.lists(LETTERS.filter(bool), max_size=4), st.lists(LETTERS, max_size=8))
def test_the_first_complete_stop_string_cuts_the_text_however_it_is_chunked(
    stops: list[str], chunks: list[str]
) -> None:
    assert feed(stops, chunks) == first_complete(stops, "".join(chunks))


@given(st.lists(LETTERS.filter(bool), min_size=1, max_size=4), st.lists(LETTERS, max_size=8))
def test_no_more_is_withheld_than_could_begin_a_stop_string(stops: list[str], chunks: list[str]) -> None:
    matcher = StopMatcher(stops)
    fed = out = ""
    for chunk in chunks:
        fed += chunk
        out += matcher.feed(chunk)
        if matcher.matched is not None:
            return
        held = fed[len(out) :]
        assert matcher.holding == bool(held)
        assert not held or any(stop.startswith(held) for stop in stops)


def test_without_stop_strings_text_passes_untouched() -> None:
    matcher = StopMatcher(())
    assert (matcher.feed("END"), matcher.holding, matcher.flush()) == ("END", False, "")


def test_a_stop_string_inside_one_chunk_is_cut_out_with_what_follows() -> None:
    assert feed(["END"], ["one END two"]) == ("one ", "END")


def test_a_stop_string_across_three_chunks_leaves_only_what_was_before_it() -> None:
    assert feed(["STOP"], [" fiveST", "O", "Psix"]) == (" five", "STOP")


def test_withheld_text_that_does_not_become_a_stop_string_is_let_through() -> None:
    assert feed(["STOP"], ["ST", "ST", "A"]) == ("STSTA", None)
