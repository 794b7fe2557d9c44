"""Perturbed models, family by family."""
