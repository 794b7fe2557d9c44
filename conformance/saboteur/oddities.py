"""Unusual but conforming behaviour that no judge may flag."""
