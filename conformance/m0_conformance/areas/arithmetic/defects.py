"""Defects of the arithmetic: the worker gets the file as an engine with the mistake takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from m0_conformance.saboteur import launching
from m0_conformance.saboteur.launching import Launched

if TYPE_CHECKING:
    from pathlib import Path


class TakenAs(Launched):
    """Serves the file under which a right engine computes what one with the mistake computes with the true file."""

    readout: ClassVar[str] = ""
    mistake: ClassVar[str] = ""

    async def arguments(self, argv: list[str]) -> list[str]:
        argv = await super().arguments(argv)
        if self.model.stem != f"readout-{self.readout}":
            return argv
        return launching.replaced(argv, "--model", self.other_file(self.write))

    def write(self, path: Path) -> None:
        """Write what the mistaken engine takes the file for."""
        from m0_models.readouts import readouts  # noqa: PLC0415 - NumPy, for the few launches that need it

        readouts()[self.readout].build().write_as_taken(path, self.mistake)
