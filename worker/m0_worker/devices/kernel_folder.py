"""Where compiled kernels are kept from one start to the next."""

from __future__ import annotations

import os
from pathlib import Path


def kernel_folder() -> Path | None:
    """The folder below XDG_CACHE_HOME, or ~/.cache; None where there is no home."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "m0-worker" / "kernels"
