"""The options of a run, declared once for the command line and for pytest."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from m0_conformance.recording.redact import REDACTED

if TYPE_CHECKING:
    from collections.abc import Callable

Disputes: TypeAlias = Literal["strict", "lenient", "report"]
GATING_PROFILES = ("m0-wire", "m0-process", "m0")
DEFAULT_REPORT_DIR = "reports/conformance"


@dataclass(slots=True)
class RunOptions:
    """What the user asked for."""

    worker_url: str | None = None
    worker_command: str | None = None
    profile: str | None = None
    report_dir: Path = field(default_factory=lambda: Path(DEFAULT_REPORT_DIR))
    seed: int = 1
    timing_scale: float = 1.0
    timeout: float = 60.0
    start_timeout: float = 60.0
    disputes: Disputes = "strict"
    requirement: list[str] = field(default_factory=list)
    repeats: list[str] | None = None
    expected: Path | None = None
    allow_destructive: bool = False
    allow_partial: bool = False
    fail_fast: bool = False
    max_examples: int = 25
    gpu_device: int = 0
    real_model: Path | None = None
    budget: float | None = None
    deadline: float | None = None
    fast: bool = False
    shape: str | None = None
    shape_like: Path | None = None
    header: list[str] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)

    @property
    def likeness(self) -> str | None:
        """Name or file of the shape that probes take."""
        return str(self.shape_like) if self.shape_like is not None else self.shape

    @property
    def environment(self) -> dict[str, str]:
        """--env as a mapping. Raises ValueError with a sentence."""
        for text in self.env:
            if "=" not in text or text.startswith("="):
                raise ValueError(f"--env {text.partition('=')[0]}: write NAME=VALUE")
        return {text.partition("=")[0]: text.partition("=")[2] for text in self.env}

    @classmethod
    def of(cls, namespace: Any) -> RunOptions:
        """From an argparse namespace (or pytest's `config.option`)."""
        values = {item.name: getattr(namespace, item.name) for item in fields(cls) if hasattr(namespace, item.name)}
        for name in ("requirement", "header", "path", "env"):
            values[name] = list(values.get(name) or [])
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """For the report: every option that differs from its default."""
        plain = RunOptions()
        secret = {"header": ":", "env": "="}
        return {
            item.name: str(value)
            if isinstance(value, Path)
            else [f"{text.partition(secret[item.name])[0]}{secret[item.name]}{REDACTED}" for text in value]
            if item.name in secret
            else value
            for item in fields(self)
            if (value := getattr(self, item.name)) != getattr(plain, item.name) and item.name != "report_dir"
        }


def add_options(add: Callable[..., Any]) -> None:
    """Declare every option through `add`, which has the signature of `ArgumentParser.add_argument`."""
    plain = RunOptions()
    add("--worker-url", metavar="URL", default=None, help="judge a running worker: http://host:port")
    add(
        "--worker-command",
        metavar="CMD",
        default=None,
        help="start and judge a worker; {worker_id} {model} {gpu_device} {port} {callback_url} are filled in, or "
        "M0-W-1100's four arguments are appended; default: the bundled worker",
    )
    add("--profile", choices=GATING_PROFILES, default=None, help="default: the largest this situation allows")
    add("--report-dir", metavar="DIR", type=Path, default=plain.report_dir, help="default: %(default)s")
    add("--seed", metavar="N", type=int, default=plain.seed, help="of the suite's own choices; default: %(default)s")
    add("--timing-scale", metavar="F", type=_positive, default=1.0, help="multiplies every time limit; default: 1")
    add(
        "--timeout", metavar="S", type=_positive, default=plain.timeout, help="longest exchange, default: %(default)s s"
    )
    add("--start-timeout", metavar="S", type=_positive, default=plain.start_timeout, help="longest start-up")
    add("--disputes", choices=("strict", "lenient", "report"), default="strict", help="how disputed points are judged")
    add("--requirement", metavar="GLOB", action="append", default=[], help="only checks of matching ids; repeatable")
    add(
        "--repeats",
        metavar="GLOB",
        action="append",
        default=None,
        help="repeat under other conditions only checks of matching ids; repeatable; `none` repeats none; default: all",
    )
    add("--expected", metavar="FILE", type=Path, default=None, help="expected failures (TOML)")
    add("--allow-destructive", action="store_true", help="with --worker-url: also checks that end the worker")
    add("--allow-partial", action="store_true", help="a PARTIAL verdict exits 0")
    add("--fail-fast", action="store_true", help="stop after the first failed check")
    add("--max-examples", metavar="N", type=int, default=plain.max_examples, help="of generated checks; default: 25")
    add(
        "--real-model",
        metavar="FILE",
        type=Path,
        default=None,
        help="also judge the worker on this GGUF file, a model that people use (needs --worker-command)",
    )
    add(
        "--budget",
        metavar="MIN",
        type=_positive,
        default=None,
        help="minutes that the run may take; what does not fit is listed; default: 10 (m0: no limit)",
    )
    add(
        "--deadline",
        metavar="MIN",
        type=_positive,
        default=None,
        help="end the run with the report of what is known then; default: 10, or 1.5 times a larger --budget (m0: 60)",
    )
    add("--fast", action="store_true", help="decide what HTTP shows in a minute, on any worker: m0-wire, short jobs")
    add(
        "--shape",
        metavar="NAME",
        default=None,
        help="write probes in the shape of qwen2.5-0.5b, phi-3-mini or gpt-oss-20b, for a worker with sizes built in",
    )
    add(
        "--shape-like",
        metavar="FILE",
        type=Path,
        default=None,
        help="write probes in the shape of this GGUF file, with its vocabulary",
    )
    add("--header", metavar="NAME:VALUE", action="append", default=[], help="sent with every request; never reported")
    add(
        "--path",
        metavar="ROUTE=PATH",
        action="append",
        default=[],
        help="where the worker serves a route of M0: execute=/v1/inference; repeatable",
    )
    add("--env", metavar="NAME=VALUE", action="append", default=[], help="of the workers that are started; repeatable")
    add("--gpu-device", metavar="N", type=int, default=0, help="device index given to the worker; default: 0")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(text)
    return value
