"""Text from an untrusted worker, made safe to look at; durations and sizes for people.

A worker may send anything: control bytes that move a terminal's cursor, bidirectional overrides that turn a line round,
lone surrogates that no file can hold. `visible` shows each as what it is, and leaves ordinary text in any script alone.
"""

from __future__ import annotations

import re
import unicodedata

# Joiners and variation selectors only shape the emoji or letters they stand between: shown as they are.
_SHAPERS = frozenset("\u200c\u200d\ufe0e\ufe0f")
_SPELLED = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})
_SUSPICIOUS = re.compile(r"[^\x20-\x7e\n\t]")


def visible(text: str) -> str:
    """The text with every control, format, surrogate and unassigned character spelled out.

    ESC becomes '⟨U+001B⟩', a right-to-left override '⟨U+202E⟩'; line feed and tab stay.
    """
    return _SUSPICIOUS.sub(lambda match: _spell(match[0]), text)


def one_line(text: str, limit: int = 400) -> str:
    """`visible` text on one line, cut after `limit` characters with a note of how many are missing."""
    cut = text[:limit]
    shown = visible(cut.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t"))
    return shown if len(text) <= limit else f"{shown}… [truncated: {len(text) - limit:,} more characters]"


def _spell(character: str) -> str:
    if character in _SHAPERS or unicodedata.category(character) not in _SPELLED:
        return character
    return f"⟨U+{ord(character):04X}⟩"


def duration(seconds: float) -> str:
    """'0.31 ms', '12 ms', '1.24 s', '2 min 05 s'."""
    sign = "-" if seconds < 0 else ""
    value = abs(seconds)
    if value == 0:
        return "0 s"
    if value < 0.001:
        return f"{sign}{value * 1e3:.2f} ms"
    if value < 0.9995:
        return f"{sign}{value * 1e3:.3g} ms"
    if value < 59.5:
        return f"{sign}{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    return f"{sign}{minutes} min {rest:02d} s"


def size(count: int) -> str:
    """'812 bytes', '31.9 KiB', '2.0 MiB'."""
    if count < 2048:
        return f"{count:,} byte" + ("" if count == 1 else "s")
    if count < 1024 * 1024:
        return f"{count / 1024:.1f} KiB"
    return f"{count / 1024 / 1024:.1f} MiB"
