"""The command line: wrong, missing and optional arguments."""
