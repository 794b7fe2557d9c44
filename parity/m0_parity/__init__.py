"""The parity toolkit: proves the worker equal to llama.cpp, checkpoint by checkpoint."""

import time

STARTED = time.perf_counter()
"""When this package was first imported: the time that a command prints counts from here."""
