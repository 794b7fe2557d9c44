"""The rungs of the tolerance ladder: each proves one thing, and each is a generator of measured rows."""
