"""Seed, temperature, top-k, top-p, min-p and penalty, seen in the odds of known dice."""
