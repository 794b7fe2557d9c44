"""Where the tokenizer cuts, heard from models that say their prompt again token by token."""
