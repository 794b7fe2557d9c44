"""The conditions under which a clause must hold: dimensions, their levels, and how to tell that a job meets one.

One vocabulary for both sides: checks are generated over these levels, and the saboteur's conditional defects lie only
where one of them holds. `GRID` is by name of the dimension; a condition is written `dimension=level`.
"""

from __future__ import annotations

from m0_conformance.conditions import of_histories, of_requests, of_texts, of_values
from m0_conformance.conditions.grid import GRID, Dimension, Level, find, levels
from m0_conformance.conditions.scene import Past, Scene

__all__ = ["GRID", "Dimension", "Level", "Past", "Scene", "find", "levels"]

ROOMS = (of_values, of_requests, of_histories, of_texts)
"""The modules that declare levels: loaded, so that `GRID` is whole."""
