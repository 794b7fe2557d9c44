"""What the device-memory checks took down: numbers from NVML and /proc by name, and /health answers by label."""

from typing import Any

from m0_conformance.contract import parse_json
from m0_conformance.recording.transcript import Exchange, Json, Recording

MIB = 1 << 20


def body_of(recording: Recording, label: str) -> tuple[Exchange, dict[str, Json]] | None:
    """The first answer under this label whose body is a JSON object."""
    for exchange in recording.labelled(label):
        body = parse_json(exchange.body).value
        if exchange.status is not None and isinstance(body, dict):
            return exchange, body
    return None


def vram_used(recording: Recording, label: str) -> tuple[Exchange, int] | None:
    """vram_bytes_used of the /health answer under this label."""
    found = body_of(recording, label)
    if found is None:
        return None
    value = found[1].get("vram_bytes_used")
    return (found[0], value) if isinstance(value, int) and not isinstance(value, bool) else None


def mib(amount: float) -> str:
    """Bytes, as a person reads them."""
    return f"{amount / MIB:,.1f} MiB"


def facts_of(recording: Recording, *names: str) -> list[Any] | None:
    """The values of these facts; None if one was not taken."""
    values = [recording.facts.get(name) for name in names]
    return None if any(value is None for value in values) else values
