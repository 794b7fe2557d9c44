"""`python -m conformance …`, the same as `m0-conformance …`."""

import sys

from conformance.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
