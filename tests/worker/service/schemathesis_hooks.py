"""What Schemathesis cannot know of the description: lengths in tokens, and that 1.0 is no integer here."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st

# Of the probe's tokens, four make any character: eight characters are never more than the 32 tokens of a stop string.
_CHARACTERS = st.characters(codec="utf-8")
schemathesis.openapi.format("m0-stop-string", st.text(_CHARACTERS, min_size=1, max_size=8))
schemathesis.openapi.format("m0-prompt", st.text(_CHARACTERS, min_size=1, max_size=1000))
_WHOLE = frozenset({"max_tokens", "top_k", "seed"})


@schemathesis.hook
def map_body(_context: schemathesis.HookContext, body: Any) -> Any:
    """JSON Schema takes 7.0 for an integer, the worker refuses it: such a number is sent as 7."""
    if not isinstance(body, dict):
        return body
    return {
        name: int(value) if name in _WHOLE and isinstance(value, float) and value.is_integer() else value
        for name, value in body.items()
    }
