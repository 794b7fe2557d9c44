"""The reference M0 worker: one process, one GGUF model, one thread of control, one job at a time."""

__version__ = "0.1.0"
