"""`python -m m0_parity` is m0-parity."""

from m0_parity.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
