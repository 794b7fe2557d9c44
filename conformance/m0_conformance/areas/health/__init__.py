"""GET /health: its fields, and what it says of the tokenizer."""
