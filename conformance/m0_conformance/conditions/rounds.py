"""The plan of repeats: in which round which request of a check meets which level.

Every dimension has a list of forms. Each request begins somewhere in it, and takes one step each round. So after as
many rounds as the longest list is long, each request of each check has met every form of every dimension; and since
where it begins is drawn for each request and dimension (by a checksum: the same in every run), any two forms of two
dimensions meet within the first requests already: a covering array of strength two, and of strength one for each
request by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

FORMS: Final[dict[str, tuple[str, ...]]] = {
    "after": ("cancel", "disconnect", "refusal", "stop", "end"),
    "company": ("alone", "waited", "waited-in-line", "one-behind", "three-behind"),
    "prompt": ("as-is", "medium", "long", "leading-space"),
    "json": ("as-is", "compact-escapes", "lines-raw"),
    "extra": ("none", "unknown-field"),
    "names": ("as-is", "lower", "upper"),
    "media": ("as-is", "charset", "capitals"),
    "framing": ("as-is", "chunked", "pieces"),
    "job-id": ("as-is", "uuid", "long", "prefix"),
    "numbers": ("as-is", "integer", "exponent", "negative-zero", "many-digits"),
    "temperature": ("as-is", "low", "default", "high"),
    "top_p": ("default", "low", "high"),
    "top_k": ("default", "low", "high"),
    "repetition_penalty": ("default", "low", "high"),
    "min_p": ("default", "given"),
    "seed": ("as-is", "zero", "low", "high"),
    "stop": ("default", "one", "several"),
}
"""By dimension, the forms that a repeat may take. Levels that do not exclude each other share a form."""
WRITTEN: Final = ("json", "names", "media", "framing", "numbers")
"""Dimensions of how a request is written: whoever speaks HTTP and JSON takes all of their forms."""
OF_JOBS: Final = frozenset(
    {"prompt", "extra", "temperature", "top_p", "top_k", "repetition_penalty", "min_p", "seed", "stop"}
)
"""Dimensions of what is asked for: equal jobs take equal forms in a round, so that they stay equal."""
ROUNDS: Final = max(map(len, FORMS.values()))
USUAL: Final = {"after": "end"}
"""The usual form, where it is not the first."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one request of one round meets."""

    forms: dict[str, str]

    def __getitem__(self, dimension: str) -> str:
        return self.forms[dimension]


def row(
    round_: int,
    number: int,
    job: str = "",
    dimensions: frozenset[str] | None = None,
    unserved: frozenset[tuple[str, str]] = frozenset(),
) -> Row:
    """The row of a request in a round; other dimensions keep their usual form.

    Args:
        round_: which round, from 0.
        number: which request of the check, from 0.
        job: what tells its job from others, for the dimensions of jobs.
        dimensions: those that the check lets vary; None for all.
        unserved: forms that this worker does not take at all, which one clause says and no other.
    """
    forms = {}
    for name, all_levels in FORMS.items():
        levels = [level for level in all_levels if (name, level) not in unserved]
        if dimensions is not None and name not in dimensions:
            forms[name] = USUAL.get(name, levels[0])
        else:
            begins = sha256(f"{name} {job if name in OF_JOBS else number}".encode()).digest()[0]
            forms[name] = levels[(round_ + begins) % len(levels)]
    return Row(forms)
