"""One layer at a time: llama.cpp and the worker side by side on a model of any size, with the memory of a layer."""
