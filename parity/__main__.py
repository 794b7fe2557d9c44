"""`python -m parity` is m0-parity."""

from parity.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
