"""The X-Deadline header: logged and counted, never enforced (spec section 14.1 #8)."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def deadline_remaining(header: str | None) -> float | None:
    """Seconds until a moment: a Unix time in seconds or milliseconds, or ISO 8601; None if it is neither."""
    if header is None:
        return None
    text = header.strip()
    try:
        moment = float(text)
        moment = moment / 1e3 if moment > 1e11 else moment  # seconds pass 1e11 in the year 5138
    except ValueError:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            return None
        moment = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    remaining = moment - time.time()
    return remaining if abs(remaining) < 1e12 else None  # NaN and infinity are no times
