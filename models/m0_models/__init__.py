"""GGUF models made by code: probes with provable behaviour and miniatures of every architecture."""
