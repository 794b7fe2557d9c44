"""How a worker is reached or started: a URL, or a command that we start, watch and always bring down again.

What is named here is loaded when it is first used: the saboteur, started a thousand times by a self-test, needs a free
port and nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m0_conformance.targets.command import Command, CommandError, bundled_command, parse_command
    from m0_conformance.targets.host import free_port, nvidia_device
    from m0_conformance.targets.process import WorkerProcess
    from m0_conformance.targets.url import UrlError, parse_url

__all__ = [
    "Command",
    "CommandError",
    "UrlError",
    "WorkerProcess",
    "bundled_command",
    "free_port",
    "nvidia_device",
    "parse_command",
    "parse_url",
]
_MODULES = {
    "command": ("Command", "CommandError", "bundled_command", "parse_command"),
    "host": ("free_port", "nvidia_device"),
    "process": ("WorkerProcess",),
    "url": ("UrlError", "parse_url"),
}


def __getattr__(name: str) -> Any:
    """Load the module that holds a name."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
