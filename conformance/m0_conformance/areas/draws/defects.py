"""Defects of how tokens are drawn where parameters come together, and of what a seed decides."""

from __future__ import annotations

from typing import Any

from m0_conformance.saboteur.lie import rewrites
from m0_conformance.saboteur.lies import integer


def _seeded(job: dict[str, Any], seed: int) -> dict[str, Any] | None:
    return {**job, "seed": seed} if seed != job["seed"] else None


def _legal(job: dict[str, Any]) -> bool:
    return integer(job.get("seed")) and 0 <= job["seed"] < 2**64


@rewrites("M0-W-1030/every-bit", source="llama.cpp and PyTorch take other widths than 64 bits")
def seed_of_32_bits(job: dict[str, Any]) -> dict[str, Any] | None:
    """The upper half of a seed is dropped."""
    return _seeded(job, job["seed"] & 0xFFFFFFFF) if _legal(job) else None


@rewrites("M0-W-1030/every-bit", source="JSON numbers read as doubles")
def seed_as_double(job: dict[str, Any]) -> dict[str, Any] | None:
    """A seed goes through a double, so that neighbours above 2^53 are one."""
    return _seeded(job, min(int(float(job["seed"])), 2**64 - 1)) if _legal(job) else None


@rewrites("M0-W-1030/every-bit", source="a signed integer that saturates")
def seed_saturates(job: dict[str, Any]) -> dict[str, Any] | None:
    """Seeds from 2^63 on are all the same."""
    return _seeded(job, min(job["seed"], 2**63 - 1)) if _legal(job) else None
