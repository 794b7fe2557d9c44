"""What this machine offers: ports and NVIDIA devices."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
from functools import cache

# Below the usual ephemeral range (32768 and up), so that no outgoing connection of ours takes the port first.
_PORTS = range(20000, 32000)
_STRIDE = 7919
"""Prime to the number of ports: every one is tried, neighbours at very different times."""
_given: set[int] = set()


def free_port() -> int:
    """A TCP port nobody listens on, not handed out by this process before. Raises OSError when none is left."""
    first = random.SystemRandom().randrange(len(_PORTS))
    for step in range(len(_PORTS)):
        port = _PORTS[(first + step * _STRIDE) % len(_PORTS)]
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


@cache
def nvidia_device() -> str | None:
    """Name of the first NVIDIA device by the driver's own tool; None without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        listing = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return listing.splitlines()[0].strip() if listing else None
