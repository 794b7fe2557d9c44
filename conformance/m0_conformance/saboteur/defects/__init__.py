"""Defects that the suite must catch, by what they lie about."""
