"""Read-out probes: models whose first words name the arithmetic of the engine that runs them.

A small random network is run in float64, once as the papers have it and once with each of many mistakes that engines
make. Each run ends in a hidden state; the output matrix holds these states as rows, so the token of the nearest one has
the largest logit. An engine therefore says `[right 1.1]`, or the name of the mistake that explains its numbers best.
"""

from m0_models.readouts.catalogue import readouts
from m0_models.readouts.mistakes import MISTAKES, Mistake
from m0_models.readouts.readout import Readout, ReadoutError

__all__ = ["MISTAKES", "Mistake", "Readout", "ReadoutError", "readouts"]
