"""What the worker logs: its events, their context, and what must not stand there."""
