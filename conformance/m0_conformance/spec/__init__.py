"""The spec as data: requirements, readings, profiles, frozen sets, kill matrix, and what compares them."""
