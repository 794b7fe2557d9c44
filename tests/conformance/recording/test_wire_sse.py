from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from m0_conformance.recording.sse import SseParse, SseParser, parse_sse

FRAGMENTS = [
    b"event: token", b"data: {}", b"data:x", b"data", b":", b": hi", b"\n", b"\r\n", b"\r", b"\n\n", b"\xef\xbb\xbf",
    b"\xff", b"\xe4\xbd", b"id: 1", b"retry: 5", b"foo: bar", b"\0", "é你😀".encode(), b"event: end\ndata: 1\n\n",
]  # fmt: skip
streams = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=3)), max_size=25).map(b"".join)


def piecewise(body: bytes, cuts: list[int]) -> SseParse:
    parser = SseParser()
    start = 0
    for cut in [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]:
        parser.feed(body[start:cut])
        start = cut
    return parser.finish()


@given(streams)
@settings(deadline=None, max_examples=300)
def test_one_byte_at_a_time_equals_whole(body: bytes) -> None:
    assert piecewise(body, list(range(len(body)))) == parse_sse(body)


@given(streams, st.lists(st.integers(0, 500), max_size=8))
@settings(deadline=None, max_examples=300)
def test_any_pieces_equal_whole(body: bytes, cuts: list[int]) -> None:
    assert piecewise(body, cuts) == parse_sse(body)


@given(streams)
@settings(deadline=None, max_examples=200)
def test_offsets_point_into_the_body(body: bytes) -> None:
    parse = parse_sse(body)
    assert parse.size == len(body)
    for event in parse.events:
        assert 0 <= event.byte <= event.end <= len(body)
        for line in event.lines:
            assert body[line.byte : line.byte + len(line.raw)] == line.raw
    assert all(0 <= problem.byte <= len(body) for problem in parse.problems)


def kinds(body: bytes) -> list[tuple[str, int]]:
    return [(problem.kind, problem.byte) for problem in parse_sse(body).problems]


def test_a_good_stream_has_no_problem() -> None:
    parse = parse_sse(b": hello\nevent: token\ndata: {\ndata:}\n\nevent: end\r\ndata: x\r\n\r\n")
    assert parse.problems == []
    assert [(event.name, event.data) for event in parse.events] == [("token", b"{\n}"), ("end", b"x")]
    assert parse.comments == 1
    assert parse.line_ends == {"lf": 5, "crlf": 3, "cr": 0}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"\xef\xbb\xbfdata: x\n\n", [("bom", 0)]),
        (b"data: x\r\r", [("lone-cr", 7), ("lone-cr", 8)]),
        (b"data: \xff\n\n", [("ill-formed-utf8", 6)]),
        (b"data: ok\n\ndata: \xe4\xbd\n\n", [("ill-formed-utf8", 16)]),
        (b"data: a\0b\n\n", [("nul", 7)]),
        (b"type: x\ndata: y\n\n", [("unknown-field", 0)]),
        (b"data\n\n", [("field-without-colon", 0)]),
        (b"event: a\nevent: b\ndata: c\n\n", [("repeated-event-field", 9)]),
        (b"event: a\n\n", [("event-without-data", 0)]),
        (b"data: x\n", [("unterminated-event", 8)]),
        (b"data: x", [("unterminated-line", 0), ("unterminated-event", 7)]),
    ],
)
def test_each_problem_is_reported_with_its_offset(body: bytes, expected: list[tuple[str, int]]) -> None:
    assert kinds(body) == expected


def test_events_arrive_as_soon_as_their_blank_line_does() -> None:
    parser = SseParser()
    assert parser.feed(b"event: a\ndata: 1\n") == []
    assert [event.name for event in parser.feed(b"\nevent: b")] == ["a"]
    assert parser.feed(b"\ndata: 2\r\n") == []
    assert [event.name for event in parser.feed(b"\r")] == ["b"]
    assert parser.feed(b"\n") == []
    assert parser.finish().problems == []
