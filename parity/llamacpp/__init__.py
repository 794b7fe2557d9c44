"""llama.cpp as the reference engine: a ctypes binding to the pinned xllamacpp wheel, no compiler needed."""

from parity.llamacpp.abi import BUILD, ReferenceUnavailableError, library, provenance
from parity.llamacpp.engine import Context, Model, Settings, Tapped
from parity.llamacpp.samplers import Chain

__all__ = [
    "BUILD",
    "Chain",
    "Context",
    "Model",
    "ReferenceUnavailableError",
    "Settings",
    "Tapped",
    "library",
    "provenance",
]
