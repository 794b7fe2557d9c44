"""The checks of all areas that are repeated under other conditions; their clauses and judges stay where they are."""
