"""Broken model files: refused at start, with code, context and words."""
