from __future__ import annotations

import time
import unicodedata

import pytest
from m0_conformance.recording.redact import redact, redact_headers, redact_json
from m0_conformance.report.text import duration, one_line, size, visible
from report_streams import SECRET


def test_ordinary_text_of_any_script_is_left_alone() -> None:
    text = "Grüße, 世界, שלום, 👩\u200d🚀, e\u0301\n\tplain"
    assert visible(text) == text


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("\x1b[31m", "⟨U+001B⟩[31m"),
        ("\x00", "⟨U+0000⟩"),
        ("\u202e", "⟨U+202E⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\x9b", "⟨U+009B⟩"),
    ],
)
def test_what_would_act_is_spelled_out(hidden: str, shown: str) -> None:
    assert visible(hidden) == shown


def test_no_character_of_unicode_gets_through_that_can_move_or_hide_anything() -> None:
    everything = "".join(chr(code) for code in range(0x3000)) + "".join(chr(code) for code in range(0xD7F0, 0x10000))
    kinds = {
        unicodedata.category(character) for character in visible(everything) if character not in "\n\t\u200c\u200d"
    }
    assert not kinds & {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
    visible(everything).encode("utf-8")


def test_one_line_is_one_line_and_names_what_it_cut() -> None:
    assert one_line("a\r\nb\tc") == "a\\r\\nb\\tc"
    assert one_line("x" * 1_500, 500) == "x" * 500 + "… [truncated: 1,000 more characters]"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.00031, "0.31 ms"), (0.012, "12 ms"), (0.4121, "412 ms"), (1.24, "1.24 s"), (0.9997, "1 s"),
     (41.7, "41.7 s"), (125, "2 min 05 s"), (-0.5, "-500 ms")],
)  # fmt: skip
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_read_well() -> None:
    assert [size(n) for n in (0, 1, 812, 32_769, 2_097_152)] == [
        "0 bytes",
        "1 byte",
        "812 bytes",
        "32.0 KiB",
        "2.0 MiB",
    ]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"curl -H 'Authorization: Bearer {SECRET}' http://h", "curl -H 'Authorization: [redacted]' http://h"),
        (f"log: using bearer {SECRET}", "log: using bearer [redacted]"),
        (f"http://ann:{SECRET}@host:1/x", "http://[redacted]@host:1/x"),
        (f"X-API-Key={SECRET}", "X-API-Key=[redacted]"),
        ('{"model_ref":"/home/ann/m/a.gguf"}', '{"model_ref":"~/m/a.gguf"}'),
        ("/Users/ann/a /root/b /root", "~/a ~/b ~"),
        (r"C:\Users\ann\a.gguf", r"~\a.gguf"),
    ],
)
def test_credentials_and_homes_are_redacted(text: str, clean: str) -> None:
    assert redact(text) == clean


@pytest.mark.parametrize("text", ["/models/home/a.gguf", "the root/branch", "/homework/a", "author: x", "/rooted"])
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_redaction_reaches_headers_and_nested_json() -> None:
    assert redact_headers([("Cookie", SECRET), ("accept", "*/*")]) == [("Cookie", "[redacted]"), ("accept", "*/*")]
    value = {"a": [{"Authorization": SECRET, "path": "/home/ann/x"}], "n": 1, "b": None}
    assert redact_json(value) == {"a": [{"Authorization": "[redacted]", "path": "~/x"}], "n": 1, "b": None}


@pytest.mark.parametrize(
    "text", ["a-" * 50_000 + "://", "authorization" + " " * 100_000, "bearer " * 30_000, "/home/" * 30_000]
)
def test_a_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    begin = time.perf_counter()
    redact(text)
    visible(text)
    assert time.perf_counter() - begin < 2  # quadratic would be minutes
