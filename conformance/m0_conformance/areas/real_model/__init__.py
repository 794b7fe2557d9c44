"""Clauses of other areas, checked on a model that people use: the run's --real-model."""
