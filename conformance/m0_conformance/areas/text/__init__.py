"""Token bytes become text: characters, end of sequence, any prompt."""
