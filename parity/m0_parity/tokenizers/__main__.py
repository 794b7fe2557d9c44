"""`python -m m0_parity.tokenizers fuzz|vectors|golden`."""

import sys

from m0_parity.tokenizers.cli import main

if __name__ == "__main__":
    sys.exit(main())
