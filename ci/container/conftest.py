"""Options of `nox -s container`, and the image under test, built once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from engines import Engine, Way, find_engine

if TYPE_CHECKING:
    from pathlib import Path

    from engines import Container


@dataclass(frozen=True)
class Image:
    """An engine and what it built."""

    engine: Engine
    tag: str
    cuda: bool

    def start(self, *words: str, **how: object) -> Container:
        """Run a container."""
        return self.engine.start(self.tag, Way(words, **how))  # type: ignore[arg-type]  # Way's own fields

    def run(self, *words: str, timeout: float = 60.0, **how: object) -> tuple[int, str]:
        """Run a container to its end: exit code and output."""
        container = self.start(*words, **how)
        try:
            container.process.wait(timeout)
        finally:
            text = container.end()
        return container.process.returncode, text


def pytest_addoption(parser: pytest.Parser) -> None:
    """What is built, on what."""
    parser.addoption("--variant", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.addoption(
        "--base", default=None, help="base image instead of the Dockerfile's; with buildah `debootstrap` makes one"
    )
    parser.addoption("--built", default=None, metavar="TAG", help="do not build, look at this image")


@pytest.fixture(scope="session")
def image(pytestconfig: pytest.Config) -> Image:
    """The image."""
    engine, cuda = find_engine(), pytestconfig.getoption("--variant") == "cuda"
    tag = pytestconfig.getoption("--built")
    if tag is None:
        tag = f"localhost/m0-{'cuda' if cuda else 'cpu'}"
        engine.build(tag, pytestconfig.getoption("--base"), cuda=cuda)
    return Image(engine, tag, cuda)


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """A folder that any user may write, as a report volume is."""
    folder = tmp_path / "reports"
    folder.mkdir()
    for path in (folder, *folder.parents):
        if path == path.parent or not path.is_relative_to(tmp_path.parents[2]):
            break
        path.chmod(0o777)
    return folder
