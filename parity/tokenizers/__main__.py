"""`python -m parity.tokenizers fuzz|vectors|golden`."""

import sys

from parity.tokenizers.cli import main

if __name__ == "__main__":
    sys.exit(main())
