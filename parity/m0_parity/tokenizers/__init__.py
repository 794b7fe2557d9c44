"""Tokenizer parity (rung T0): ids equal to llama.cpp's, on generated texts, golden vectors and its own vectors."""
