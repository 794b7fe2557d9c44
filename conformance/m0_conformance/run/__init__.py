"""A run: checks against a target, and what is done with its recordings."""
