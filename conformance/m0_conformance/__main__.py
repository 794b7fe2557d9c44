"""`python -m m0_conformance …`, the same as `m0-conformance …`."""

import sys

from m0_conformance.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
