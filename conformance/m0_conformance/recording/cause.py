"""What a process said about its own end: the one line of its output that holds the cause."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m0_conformance.recording.transcript import LogLine

KEPT: Final = 200
"""Last lines of a failed start that a recording keeps."""
_LONGEST: Final = 300
_TELLING: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"panicked at|^panic: |^fatal error: ",
        r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b(?:: .+)?$",  # the last line of a traceback
        r"terminate called|what\(\):|[Aa]ssertion .*failed|Segmentation fault|core dumped",
        r'"level": ?"(?:ERROR|error|FATAL|fatal|CRITICAL|critical)"',
        r"^(?:Error|ERROR|error|fatal|FATAL|Fatal|CRITICAL)\b",
        r"\b(?:error|Error|ERROR|failed|cannot|could not)\b",
    )
)
"""What causes look like, the most telling first: panics, exceptions, aborts, errors that a log names, other errors."""
_FRAME: Final = re.compile(r"^\s*(?:\d+: |at |File \"|goroutine |0x[0-9a-f]+|stack backtrace|note: run with)")


def ending(exit_code: int) -> str:
    """An exit code in words: "exit code 1", "killed by SIGSEGV"."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


def cause(lines: Sequence[LogLine], *, at_least: bool = True) -> str:
    """The line that tells why, at most 300 characters, or "".

    Where none does, ``at_least`` gives the last line that is no stack frame.

    Of equally telling lines the last one counts, and what a process wrote to stderr before what it wrote to stdout.
    """
    said = [line for line in lines if line.text.strip() and not _FRAME.match(line.text)]
    for pattern in _TELLING:
        for stream in ("stderr", "stdout"):
            own = [line for line in said if line.stream == stream]
            for number in range(len(own) - 1, -1, -1):
                if pattern.search(own[number].text):
                    text = own[number].text.strip()
                    if "panicked at" in text and text.endswith(":") and number + 1 < len(own):
                        text += f" {own[number + 1].text.strip()}"
                    return text[:_LONGEST]
    return said[-1].text.strip()[:_LONGEST] if said and at_least else ""
