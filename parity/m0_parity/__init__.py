"""The parity toolkit: proves the worker equal to llama.cpp, checkpoint by checkpoint."""
