"""Device memory on an NVIDIA host: weights, KV cache, residency, leaks."""
