"""Probe models: tiny GGUF files whose weights make the next token a known function of the context.

A worker that loads one of these files can be told what it must say, whatever engine it runs: see `script` (the next
token follows from the current one), `dice` (a known distribution after every token), `position` (attention sees exactly
the token three back), `memory` (attention averages over everything seen) and `bias` (the value bias alone decides).
`catalogue` lists the ready-made ones.
"""

from m0_models.probes.bias import bias
from m0_models.probes.catalogue import Recipe, catalogue
from m0_models.probes.dice import dice
from m0_models.probes.form import FORMS, QUANTS
from m0_models.probes.likeness import Likeness, named, of_file
from m0_models.probes.memory import memory
from m0_models.probes.parts import Probe
from m0_models.probes.position import position
from m0_models.probes.script import chatter, metronome, script

__all__ = [
    "FORMS",
    "QUANTS",
    "Likeness",
    "Probe",
    "Recipe",
    "bias",
    "catalogue",
    "chatter",
    "dice",
    "memory",
    "metronome",
    "named",
    "of_file",
    "position",
    "script",
]
