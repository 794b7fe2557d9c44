"""What a job asks for: how tokens are drawn, each parameter at its default, low and high, parameters together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.conditions.grid import level

if TYPE_CHECKING:
    from m0_conformance.conditions.scene import Scene


def temperature(scene: Scene) -> float:
    """What is asked for, or M0's default."""
    asked = scene.number_of("temperature")
    return 1.0 if asked is None else asked


def within(scene: Scene, name: str, low: float, high: float) -> bool:
    """The field is a number between these, both included."""
    value = scene.number_of(name)
    return value is not None and low <= value <= high


# ---- how tokens are drawn -----------------------------------------------------------------------------------------


@level("draw", "greedy", usual=True)
def greedy(scene: Scene) -> bool:
    """The job is greedy."""
    return temperature(scene) == 0.0


@level("draw", "sampled")
def sampled(scene: Scene) -> bool:
    """The job is sampled."""
    return temperature(scene) > 0.0


# ---- each parameter -----------------------------------------------------------------------------------------------


@level("temperature", "default")
def temperature_default(scene: Scene) -> bool:
    """No temperature is given."""
    return "temperature" not in scene.job


@level("temperature", "low")
def temperature_low(scene: Scene) -> bool:
    """The temperature is above 0 and below 0.5."""
    return 0.0 < temperature(scene) < 0.5


@level("temperature", "high")
def temperature_high(scene: Scene) -> bool:
    """The temperature is above 1."""
    return 1.0 < temperature(scene) <= 2.0


@level("top_p", "default", usual=True)
def top_p_default(scene: Scene) -> bool:
    """No top_p is given."""
    return "top_p" not in scene.job


@level("top_p", "low")
def top_p_low(scene: Scene) -> bool:
    """top_p is below 0.5."""
    return within(scene, "top_p", 0.0, 0.499)


@level("top_p", "high")
def top_p_high(scene: Scene) -> bool:
    """top_p is 0.5 or more, and not 1."""
    return within(scene, "top_p", 0.5, 0.9999)


@level("top_k", "default", usual=True)
def top_k_default(scene: Scene) -> bool:
    """No top_k is given."""
    return "top_k" not in scene.job


@level("top_k", "low")
def top_k_low(scene: Scene) -> bool:
    """top_k is between 1 and 8."""
    return within(scene, "top_k", 1, 8)


@level("top_k", "high")
def top_k_high(scene: Scene) -> bool:
    """top_k is above 8."""
    return within(scene, "top_k", 9, 10**9)


@level("repetition_penalty", "default", usual=True)
def penalty_default(scene: Scene) -> bool:
    """No repetition_penalty is given."""
    return "repetition_penalty" not in scene.job


@level("repetition_penalty", "low")
def penalty_low(scene: Scene) -> bool:
    """repetition_penalty is below 1."""
    return within(scene, "repetition_penalty", 0.0, 0.999)


@level("repetition_penalty", "high")
def penalty_high(scene: Scene) -> bool:
    """repetition_penalty is above 1."""
    return within(scene, "repetition_penalty", 1.001, 2.0)


@level("min_p", "given")
def min_p_given(scene: Scene) -> bool:
    """A min_p is given."""
    return scene.number_of("min_p") is not None


@level("seed", "default", usual=True)
def seed_default(scene: Scene) -> bool:
    """No seed is given."""
    return "seed" not in scene.job


@level("seed", "zero")
def seed_zero(scene: Scene) -> bool:
    """The seed is 0."""
    return scene.number_of("seed") == 0


@level("seed", "low")
def seed_low(scene: Scene) -> bool:
    """The seed is above 0 and fits into 32 bits."""
    return within(scene, "seed", 1, 2**32 - 1)


@level("seed", "high")
def seed_high(scene: Scene) -> bool:
    """The seed is above 2^53, where doubles have gaps."""
    return within(scene, "seed", 2**53 + 1, 2**64 - 1)


@level("stop", "default", usual=True)
def stop_default(scene: Scene) -> bool:
    """No stop string is given."""
    return not scene.job.get("stop")


def stops(scene: Scene) -> list[str]:
    """The stop strings; empty when there is no such list."""
    found = scene.job.get("stop")
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


@level("stop", "one")
def stop_one(scene: Scene) -> bool:
    """One stop string is given."""
    return len(stops(scene)) == 1


@level("stop", "several")
def stop_several(scene: Scene) -> bool:
    """Several stop strings are given."""
    return len(stops(scene)) > 1


@level("stop", "long")
def stop_long(scene: Scene) -> bool:
    """A stop string is longer than 12 characters."""
    return any(len(item) > 12 for item in stops(scene))


@level("stop", "beyond-ascii")
def stop_beyond_ascii(scene: Scene) -> bool:
    """A stop string has letters outside ASCII."""
    return any(not item.isascii() for item in stops(scene))


# ---- parameters together ------------------------------------------------------------------------------------------


@level("together", "top_k+top_p")
def top_k_and_top_p(scene: Scene) -> bool:
    """top_k and top_p both cut."""
    return within(scene, "top_k", 1, 10**9) and within(scene, "top_p", 0.0, 0.9999)


@level("together", "temperature+top_k")
def temperature_and_top_k(scene: Scene) -> bool:
    """A temperature other than 1 comes with a top_k."""
    return temperature(scene) not in {0.0, 1.0} and within(scene, "top_k", 1, 10**9)


@level("together", "temperature+top_p")
def temperature_and_top_p(scene: Scene) -> bool:
    """A temperature other than 1 comes with a top_p."""
    return temperature(scene) not in {0.0, 1.0} and within(scene, "top_p", 0.0, 0.9999)


@level("together", "penalty+top_k")
def penalty_and_top_k(scene: Scene) -> bool:
    """A repetition_penalty comes with a top_k."""
    return (penalty_low(scene) or penalty_high(scene)) and within(scene, "top_k", 1, 10**9)


@level("together", "penalty+stop")
def penalty_and_stop(scene: Scene) -> bool:
    """A repetition_penalty comes with stop strings."""
    return (penalty_low(scene) or penalty_high(scene)) and bool(stops(scene))


@level("together", "sampled+stop")
def sampled_and_stop(scene: Scene) -> bool:
    """A sampled job has stop strings."""
    return sampled(scene) and bool(stops(scene))
