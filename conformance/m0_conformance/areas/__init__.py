"""The clauses by area: each folder holds demand, check, judge and defects of its clauses."""
