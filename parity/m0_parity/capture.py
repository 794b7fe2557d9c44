"""Running the same token ids through llama.cpp and through the worker, recording every common checkpoint.

The worker runs in this process, on the same file, through its own engine; only its tap is ours. Both sides record all
prompt positions and every decode step.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from m0_worker.devices import open_device
from m0_worker.devices.cpu import CpuDevice
from m0_worker.engine import Model, load_model
from m0_worker.gguf import GgufFile
from m0_worker.sampling import SamplingParams

from m0_parity import llamacpp
from m0_parity.names import WORKER_NAMES, Place, from_llamacpp, from_worker
from m0_parity.recording import Collector, Recording, Request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from m0_worker.devices.interface import Device

CONTEXT: Final = 512
_GREEDY: Final = SamplingParams(temperature=0.0)


@dataclass(frozen=True, slots=True)
class Work:
    """One request to run: its prompt, and the tokens to feed back one by one after it.

    Decode steps are fed from here and not from an engine's own choice, so that both see the same ids.
    """

    id: str
    prompt: tuple[int, ...]
    decode: tuple[int, ...] = ()

    @property
    def tokens(self) -> list[int]:
        """All input tokens."""
        return [*self.prompt, *self.decode]


def workload(vocabulary: int, *, length: int = 300, decode: int = 8, seed: int = 0) -> list[Work]:
    """The standard work: a long prompt with decode steps, then a second request in the same process, other tokens."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocabulary, size=(2, length + decode)).tolist()
    second = max(17, length // 3)
    return [
        Work("first", tuple(ids[0][:length]), tuple(ids[0][length:])),
        Work("second", tuple(ids[1][:second]), tuple(ids[1][second : second + decode])),
    ]


@lru_cache(maxsize=64)
def _digest(path: Path, _size: int, _mtime: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file, remembered while the file stays as it is."""
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


# llama.cpp -----------------------------------------------------------------------------------------------------------


class _LlamaTap:
    """Takes the graph's tensors of the decode call in progress."""

    def __init__(self, names: frozenset[str] | None) -> None:
        self.collector = Collector()
        self.position = 0
        self.count = 0
        self._names = names

    def wanted(self, name: str, op: str) -> bool:
        place = from_llamacpp(name, op)
        return place is not None and (self._names is None or place[1] in self._names)

    def __call__(self, tapped: llamacpp.Tapped) -> None:
        place = from_llamacpp(tapped.name, tapped.op)
        if place is not None:
            self.collector.add(place, self.position, tapped.values.reshape(self.count, -1))


def record_llamacpp(
    path: Path,
    work: Sequence[Work],
    settings: llamacpp.Settings | None = None,
    *,
    one_by_one: bool = False,
    context: int = CONTEXT,
    names: frozenset[str] | None = None,
) -> Recording:
    """Run ``work`` through llama.cpp; all requests share one context, which is cleared between them.

    ``one_by_one`` decodes the prompts a token at a time, which makes llama.cpp choose other kernels. ``names`` limits
    what is recorded (canonical names).

    Raises:
        ReferenceUnavailableError: no llama.cpp, or it refuses the file.
    """
    settings = settings or llamacpp.Settings()
    recording = Recording(
        {
            **llamacpp.provenance(),
            "model": path.name,
            "model_sha256": sha256(path),
            "settings": settings.describe() | {"one_by_one": one_by_one, "context": context},
        }
    )
    tap = _LlamaTap(names)
    with (
        llamacpp.Model(path, repack=settings.repack) as model,
        llamacpp.Context(model, context, settings, tap=tap, wanted=tap.wanted) as decoder,
    ):
        recording.provenance["architecture"] = model.metadata("general.architecture")
        for item in work:
            decoder.reset()
            tap.collector, tap.position = Collector(), 0
            width = 1 if one_by_one else settings.ubatch  # a longer pass would reach the tap in parts
            steps = [list(item.prompt[at : at + width]) for at in range(0, len(item.prompt), width)]
            for step in [*steps, *([t] for t in item.decode)]:
                tap.count = len(step)
                decoder.decode(step)
                tap.position += len(step)
            recording.requests[item.id] = tap.collector.finish(Request(item.id, item.tokens, len(item.prompt)))
    settle(recording)
    return recording


def settle(recording: Recording) -> None:
    """Give a recording of llama.cpp the checkpoints that both engines have.

    It leaves phi3's first residual sum unnamed: that is the layer's output less the feed-forward output. It names
    gpt2's up projection twice, without and with its bias: the second holds the first.
    """
    for request in recording:
        for layer, name in request.places():
            if name == "ffn_up_b":
                request.rows.pop((layer, "ffn_up"), None)
        for layer, name in request.places():
            if name == "l_out" and (layer, "ffn_inp") not in request.rows and (layer, "ffn_out") in request.rows:
                out, ffn = request.rows[layer, "l_out"], request.rows[layer, "ffn_out"]
                values = (out.values.astype(np.float64) - ffn.values).astype(np.float32)
                request.rows[layer, "ffn_inp"] = type(out)(out.positions, values, out.features)


# the worker ----------------------------------------------------------------------------------------------------------


class _WorkerTap:
    """Takes the worker's checkpoints; with ``forced`` it puts the reference's values in their place.

    The CPU device hands its tap the very array the model goes on with. Overwriting it after recording means that every
    operation computes from the reference's inputs: an error shows where it is made, and nowhere else.
    """

    all_rows = True

    def __init__(
        self,
        forced: Request | None = None,
        only: frozenset[Place] | None = None,
        names: frozenset[str] | None = None,
    ) -> None:
        self.collector = Collector()
        self._names = WORKER_NAMES if names is None else WORKER_NAMES & names
        self._forced = forced
        self._only = only
        self._position = 0
        self._seen: dict[tuple[str, int], int] = {}
        self._rotates = forced is None or any(name in {"Qpre", "Kpre"} for _, name in forced.rows)

    def wants(self, name: str) -> bool:
        return name in self._names

    def begin(self, tokens: Sequence[int], position: int) -> None:  # noqa: ARG002  # the interface has both
        self._position = position
        self._seen.clear()

    def __call__(self, name: str, layer: int, array: npt.NDArray[Any]) -> None:
        occurrence = self._seen.get((name, layer), 0)
        self._seen[name, layer] = occurrence + 1
        place = from_worker(name, layer, occurrence)
        if place is None:
            return
        self.collector.add(place, self._position, array)
        if self._forced is None:
            return
        if not self._rotates and place[1] in {"Qpre", "Kpre"}:
            place = (place[0], {"Qpre": "Qcur", "Kpre": "Kcur"}[place[1]])
        rows = self._forced.rows.get(place)
        if rows is None or rows.features != array.shape[1]:
            return  # another shape is a finding of its own; there is nothing to put in its place
        if self._only is None or place in self._only:
            array[...] = rows.values[self._position : self._position + len(array)].astype(array.dtype)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How the worker computes."""

    kv: Literal["f16", "f32"] = "f32"
    device: Literal["cpu", "cuda"] = "cpu"
    yarn_rounding: bool = True
    gelu_table: bool = False
    half_attention: bool = False
    """Queries and softmax weights rounded to FP16, as llama.cpp's CPU code does beside an FP16 cache."""
    compiled: bool = False
    """Stored blocks and compiled kernels, as for a large model; NumPy with weights in float32 otherwise."""
    context: int = CONTEXT


def record_worker(
    path: Path,
    work: Sequence[Work],
    settings: WorkerSettings | None = None,
    *,
    forced: Recording | None = None,
    only: frozenset[Place] | None = None,
    names: frozenset[str] | None = None,
) -> Recording:
    """Run ``work`` through the worker's engine in this process.

    ``forced`` replaces each computed checkpoint by that recording's value once it is recorded (teacher forcing by
    operation), or the places in ``only`` (teacher forcing by layer). On a device that copies for its tap this has no
    effect, so it is refused there. ``names`` limits what is recorded.

    Raises:
        ValueError: forcing on another device than the CPU, or compiled kernels where there are none.
        GgufError: the worker refuses the file.
    """
    settings = settings or WorkerSettings()
    if forced is not None and settings.device != "cpu":
        raise ValueError("teacher forcing writes into the model's own arrays, which only the CPU device shows")
    recording = Recording(
        {
            "engine": "m0-worker",
            "model": path.name,
            "model_sha256": sha256(path),
            "settings": {
                "kv": settings.kv,
                "device": settings.device,
                "yarn_rounding": settings.yarn_rounding,
                "gelu_table": settings.gelu_table,
                "half_attention": settings.half_attention,
                "compiled": settings.compiled,
                "context": settings.context,
            },
        }
    )
    gguf = GgufFile.open(path)
    device: Device = open_device(settings.device, 0, dense_budget=0 if settings.compiled else None)
    if isinstance(device, CpuDevice):
        device.half_attention = settings.half_attention
    try:
        model = load_model(
            gguf,
            device,
            n_ctx=min(settings.context, int(str(gguf.metadata[f"{gguf.architecture}.context_length"]))),
            kv_dtype=settings.kv,
            yarn_rounding=settings.yarn_rounding,
            gelu_table=settings.gelu_table,
        )
        if settings.compiled and device.note is not None:
            raise ValueError(device.note)  # NumPy in their place would prove nothing about kernels
        recording.provenance["architecture"] = model.architecture
        texts = gguf.metadata.get("tokenizer.ggml.tokens")
        recording.vocabulary = [str(text) for text in texts] if isinstance(texts, list | tuple) else []
        for item in work:
            tap = _WorkerTap(None if forced is None else forced.requests[item.id], only, names)
            _run(model, item, tap)
            recording.requests[item.id] = tap.collector.finish(Request(item.id, item.tokens, len(item.prompt)))
    finally:
        device.close()
        gguf.close()
    return recording


def _run(model: Model, item: Work, tap: _WorkerTap) -> None:
    """Prefill the prompt, then go on token by token with the given tokens instead of sampled ones."""
    with closing(model.open(len(item.tokens) + 1, _GREEDY, seed=0, tap=tap)) as job:
        for step in (item.prompt, *((token,) for token in item.decode)):
            for _ in job.prefill(step):
                pass
