"""The frozen classes: right where Unicode has not changed since, and independent of the interpreter."""

import unicodedata

import pytest
from m0_worker.tokenizers.unicode_classes import (
    LETTER,
    NUMBER,
    OTHER,
    PUNCTUATION,
    RUNS,
    SPACE,
    STAND_INS,
    VERSION,
    build_runs,
    class_letter,
    collapse,
)


def test_ascii_is_kept() -> None:
    text = "".join(map(chr, range(128)))
    assert collapse(text) == text
    assert collapse(text + "é") == text + LETTER


@pytest.mark.parametrize(
    ("character", "stand_in"),
    [
        ("é", LETTER),
        ("中", LETTER),
        ("\U000323af", LETTER),  # last letter of CJK extension H
        ("٣", NUMBER),
        ("½", NUMBER),
        ("\u3000", SPACE),
        ("\x85", SPACE),
        ("\u200b", OTHER),  # zero width space is a format character
        ("。", PUNCTUATION),
        ("€", OTHER),
        ("\u0301", OTHER),
        ("😀", OTHER),
        ("\U00010d4a", OTHER),  # a letter since Unicode 16 only
        ("\U0010ffff", OTHER),
    ],
)
def test_stand_ins(character: str, stand_in: str) -> None:
    assert collapse(character) == stand_in


def test_the_table_is_the_databases_own_wherever_both_know_the_character() -> None:
    """Categories of assigned characters hardly ever change: any interpreter can vouch for most of the table."""
    codes = [code for code in range(0x80, 0x110000) if unicodedata.category(chr(code)) not in {"Cn", "Cs"}]
    text = "".join(map(chr, codes))
    expected = "".join(STAND_INS[class_letter(code)] for code in codes)
    different = [code for code, got, want in zip(codes, collapse(text), expected, strict=True) if got != want]
    if tuple(map(int, unicodedata.unidata_version.split("."))) <= (15, 1, 0):
        assert different == []
    else:
        assert all(collapse(chr(code)) == OTHER for code in different)  # assigned later


def test_the_table_covers_everything() -> None:
    if unicodedata.unidata_version == VERSION:
        assert build_runs() == RUNS
    spaced = "".join(f" {character}" if character.isupper() else character for character in RUNS).split()
    assert sum(int(run[1:] or "1", 16) for run in spaced) == 0x110000 - 0x80
