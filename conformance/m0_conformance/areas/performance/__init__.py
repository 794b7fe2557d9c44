"""Figures that the spec defers to M1."""
