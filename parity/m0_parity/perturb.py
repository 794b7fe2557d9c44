"""Perturbed models: a GGUF with one thing changed, for the worker alone, so that the tools must find and place it.

Each entry says what is changed, in which miniature, where the first divergence must be placed, and which words the
diagnosis must contain. They are the mistakes that engines really make, and the ways in which files really break.
"""

from __future__ import annotations

from typing import Final

from m0_parity.perturbed import gpt2, gpt_oss, llama, phi3, qwen2
from m0_parity.perturbed.base import Perturbation

__all__ = ["PERTURBATIONS", "Perturbation"]

PERTURBATIONS: Final[dict[str, Perturbation]] = {
    p.name: p for family in (llama, qwen2, phi3, gpt2, gpt_oss) for p in family.ALL
}
"""All perturbations by name."""
