"""A haiku from a real model: what M0-W-1800 is about, with proof that the model in the file wrote it."""
