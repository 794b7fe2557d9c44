"""What builds and runs the image: Docker, Podman, or buildah with a chroot where neither can run.

Each can build, start (with a read-only root file system, on the host's network), and in a running container execute a
command and send a signal.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]
STORAGE = ("buildah", "--storage-driver", "vfs")
CA = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))


@dataclass(frozen=True)
class Way:
    """How a container is run."""

    words: tuple[str, ...]
    user: str | None = None
    """`uid:gid` instead of the image's own user."""
    binds: tuple[tuple[Path, str, bool], ...] = ()
    """Host folder or file, where it appears, and whether it may be written."""
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: str | None = None


class Container(Protocol):
    """A container that runs with a read-only root file system on the host's network."""

    process: subprocess.Popen[bytes]

    def execute(self, *words: str) -> int:
        """Run a command inside; its exit code."""

    def signal(self, name: str) -> None:
        """Send a signal to the container's first process, as `TERM`."""

    def end(self) -> str:
        """Kill it if it runs; all that it has printed."""


class Engine(Protocol):
    """A container engine."""

    name: str

    def build(self, tag: str, base: str | None, *, cuda: bool) -> None:
        """Build the Dockerfile of this repository. Raises CalledProcessError."""

    def start(self, tag: str, way: Way) -> Container:
        """Run a container."""

    def configuration(self, tag: str) -> dict[str, object]:
        """The image's own settings: User, Healthcheck, Entrypoint and so on."""


def build_words(base: str | None, *, cuda: bool) -> list[str]:
    """The part of a build command that all engines share."""
    words = ["--build-arg", f"CUDA={int(cuda)}"]
    if base is not None:
        words += ["--build-arg", f"BASE={base}"]
    if CA.exists():
        words += ["--secret", f"id=ca,src={CA}"]
    if Path("/etc/pip.conf").exists():
        words += ["--secret", "id=pip,src=/etc/pip.conf"]
    return words


def output(*words: str) -> str:
    """What a command prints. Raises CalledProcessError."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class Output:
    """A file for what a container prints: a pipe that nobody reads would stop the program."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the container
        self._text: str | None = None

    def of(self, process: subprocess.Popen[bytes]) -> str:
        """All of it, after the end of the process."""
        process.wait(timeout=10)
        if self._text is None:
            self.file.seek(0)
            self._text = self.file.read().decode("utf-8", "replace")
            self.file.close()
        return self._text


class DockerContainer:
    """A container of Docker's or Podman's."""

    def __init__(self, program: str, tag: str, way: Way) -> None:
        self._program = program
        self._name = f"m0-{uuid.uuid4().hex[:12]}"
        words = [program, "run", "--rm", "--name", self._name, "--network", "host", "--read-only", "--tmpfs", "/tmp"]  # noqa: S108 - the container's own
        if way.user is not None:
            words += ["--user", way.user]
        if way.entrypoint is not None:
            words += ["--entrypoint", way.entrypoint]
        for source, target, writable in way.binds:
            words += ["--volume", f"{source}:{target}{'' if writable else ':ro'}"]
        for name, value in way.environment.items():
            words += ["--env", f"{name}={value}"]
        self._output = Output()
        self.process = subprocess.Popen([*words, tag, *way.words], stdout=self._output.file, stderr=subprocess.STDOUT)

    def execute(self, *words: str) -> int:
        """See the protocol."""
        return subprocess.run([self._program, "exec", self._name, *words], check=False, capture_output=True).returncode

    def signal(self, name: str) -> None:
        """See the protocol."""
        output(self._program, "kill", "--signal", name, self._name)

    def end(self) -> str:
        """See the protocol."""
        subprocess.run([self._program, "kill", self._name], check=False, capture_output=True)
        return self._output.of(self.process)


class Docker:
    """Docker or Podman."""

    def __init__(self, program: str) -> None:
        self.name = program

    def build(self, tag: str, base: str | None, *, cuda: bool) -> None:
        """See the protocol."""
        shape = ["--format", "docker"] if self.name == "podman" else []  # OCI images have no health check
        subprocess.run([self.name, "build", *shape, "-t", tag, *build_words(base, cuda=cuda), str(ROOT)], check=True)

    def start(self, tag: str, way: Way) -> DockerContainer:
        """See the protocol."""
        return DockerContainer(self.name, tag, way)

    def configuration(self, tag: str) -> dict[str, object]:
        """See the protocol."""
        found: dict[str, object] = json.loads(
            output(self.name, "image", "inspect", "--format", "{{json .Config}}", tag)
        )
        return found


class ChrootContainer:
    """A root file system entered by chroot, with mounts and processes of its own: the program is process 1."""

    def __init__(self, root: Path, configuration: dict[str, object], way: Way) -> None:
        script = ["set -e", "mount --make-rprivate /", 'mount --bind "$R" "$R"']
        script += [f'mkdir -p "$R{target}"' for source, target, _ in way.binds if source.is_dir()]
        script += [
            f'mkdir -p "$(dirname "$R{target}")"; touch "$R{target}"' for s, target, _ in way.binds if s.is_file()
        ]
        script += ['mount -o remount,bind,ro "$R"', 'mount -t proc proc "$R/proc"', 'mount --rbind /dev "$R/dev"']
        script += ['mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"']
        for source, target, writable in way.binds:
            script.append(f'mount --bind "{source}" "$R{target}"')
            script += [] if writable else [f'mount -o remount,bind,ro "$R{target}"']
        inside = dict(entry.split("=", 1) for entry in configuration["Env"] or []) | {"HOME": "/home/judge"}  # type: ignore[attr-defined,union-attr]  # Docker's form
        self._inside = ["env", "-i", *(f"{name}={value}" for name, value in (inside | way.environment).items())]
        self._user = way.user or "1000:1000"
        entry = [way.entrypoint] if way.entrypoint is not None else list(configuration["Entrypoint"])  # type: ignore[call-overload]  # Docker's form
        words = [*entry, *(way.words or tuple(configuration["Cmd"]))]  # type: ignore[arg-type]  # Docker's form
        script.append('exec chroot --userspec="$U" "$R" "$@"')
        go = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", "\n".join(script), "sh"]
        # The working folder is the image's; chroot itself starts in the root.
        change = ["sh", "-c", 'cd "$0" && exec "$@"', str(configuration["WorkingDir"])]
        self._root = root
        self._output = Output()
        self.process = subprocess.Popen(
            [*go, *self._inside, *change, *words],
            env={**os.environ, "R": str(root), "U": self._user},
            stdout=self._output.file,
            stderr=subprocess.STDOUT,
        )

    @property
    def first(self) -> int:
        """The first process, as this host counts it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        deadline = time.monotonic() + 5
        while not (found := children.read_text().split()):
            if time.monotonic() > deadline:
                raise ProcessLookupError("the container has no process")
            time.sleep(0.01)
        return int(found[0])

    def execute(self, *words: str) -> int:
        """See the protocol."""
        enter = ["nsenter", "--target", str(self.first), "--mount", "--pid", "chroot", f"--userspec={self._user}"]
        command = [*enter, str(self._root), *self._inside, *words]
        return subprocess.run(command, check=False, capture_output=True).returncode

    def signal(self, name: str) -> None:
        """See the protocol."""
        output("kill", "-s", name, str(self.first))

    def end(self) -> str:
        """See the protocol. Killing `unshare` is not enough: its child has changed its user and outlives it."""
        if self.process.poll() is None:
            self.signal("KILL")
        return self._output.of(self.process)


class Buildah:
    """buildah builds without a daemon and without namespaces of its own; the image runs in a chroot."""

    name = "buildah"

    def __init__(self) -> None:
        self._roots: dict[str, Path] = {}

    def build(self, tag: str, base: str | None, *, cuda: bool) -> None:
        """See the protocol."""
        if base == "debootstrap":
            base = debootstrap()
        # OCI images have no health check.
        how = ["bud", "--isolation", "chroot", "--format", "docker", "-t", tag]
        subprocess.run([*STORAGE, *how, *build_words(base, cuda=cuda), str(ROOT)], check=True)

    def root(self, tag: str) -> Path:
        """A container's root file system, made once for each image."""
        if tag not in self._roots:
            container = output(*STORAGE, "from", tag).strip()
            self._roots[tag] = Path(output(*STORAGE, "mount", container).strip())
        return self._roots[tag]

    def start(self, tag: str, way: Way) -> ChrootContainer:
        """See the protocol."""
        return ChrootContainer(self.root(tag), self.configuration(tag), way)

    def configuration(self, tag: str) -> dict[str, object]:
        """See the protocol."""
        found = json.loads(output(*STORAGE, "inspect", "--type", "image", tag))
        settings: dict[str, object] = found["Docker"]["config"]
        return settings


def debootstrap() -> str:
    """A base image made from Debian's packages, for a host that reaches no image registry; its name."""
    name = "localhost/m0-base"
    if subprocess.run([*STORAGE, "inspect", "--type", "image", name], check=False, capture_output=True).returncode == 0:
        return name
    include = "--include=ca-certificates,python3,python3-pip,python3-venv"
    container = output(*STORAGE, "from", "scratch").strip()
    folder = output(*STORAGE, "mount", container).strip()
    subprocess.run(["debootstrap", "--variant=minbase", include, "bookworm", folder], check=True, capture_output=True)
    output(*STORAGE, "umount", container)
    output(*STORAGE, "commit", "--rm", container, name)
    return name


def find_engine() -> Engine:
    """The engine of this host: one that answers. Raises FileNotFoundError with what to install."""
    for program in ("docker", "podman"):
        if (
            shutil.which(program)
            and subprocess.run([program, "info"], check=False, capture_output=True).returncode == 0
        ):
            return Docker(program)
    if shutil.which("buildah") and os.geteuid() == 0:
        return Buildah()
    raise FileNotFoundError("no Docker or Podman answers, and buildah is not there or this user is not root")
