"""llama.cpp as the reference engine: a ctypes binding to the pinned xllamacpp wheel, no compiler needed."""

from m0_parity.llamacpp.abi import BUILD, ReferenceUnavailableError, library, provenance
from m0_parity.llamacpp.engine import Context, Model, Settings, Tapped
from m0_parity.llamacpp.samplers import Chain

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
