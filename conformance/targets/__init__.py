"""How a worker is reached or started: a URL, or a command that we start, watch and always bring down again."""

from conformance.targets.command import Command, CommandError, bundled_command, parse_command
from conformance.targets.host import free_port, nvidia_device
from conformance.targets.process import WorkerProcess
from conformance.targets.url import UrlError, parse_url

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
