"""Equal jobs give equal tokens, and no job leaves a trace in the next."""
