"""What a connection may ask for, how long it may let others wait, and how many there may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_MOST_CONNECTIONS = 1024
_OTHER_DESCRIPTORS = 32  # recordings, the callback, a residency check: what a worker opens while it serves


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a client may ask of a connection, and how long it may let others wait.

    Attributes:
        head_bytes: of all headers of a request together.
        headers: how many.
        target_bytes: of the path and query.
        head_s: from a request's first byte to the end of its head.
        idle_s: without a request.
        body_s: from the end of the head to the end of the body, where the application does not ask for it.
        stall_s: with an answer waiting that the client does not read.
        linger_s: from the last byte of the last answer to the end of the connection.
        connections: open at a time, for any request.
        reserve: beyond those, for requests that are answered at once.
    """

    head_bytes: int = 32 * 1024
    headers: int = 100
    target_bytes: int = 8 * 1024
    head_s: float = 10.0
    idle_s: float = 30.0
    body_s: float = 35.0
    stall_s: float = 30.0
    linger_s: float = 2.0
    connections: int = _MOST_CONNECTIONS
    reserve: int = 32


def descriptors_allow(most: int = _MOST_CONNECTIONS, reserve: int = 32) -> int:
    """Connections that the process's limit of open files leaves, after raising it as far as it may go."""
    import resource  # noqa: PLC0415 - POSIX only

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = most + reserve + 256
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    if soft == resource.RLIM_INFINITY:
        return most
    try:
        in_use = sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        in_use = 64
    return max(4, min(most, soft - in_use - _OTHER_DESCRIPTORS - reserve))
