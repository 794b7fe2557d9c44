"""Stop strings: where the text ends."""
