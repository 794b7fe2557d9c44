"""How tokens are drawn where parameters come together, and what a seed decides."""
