"""llama.cpp layer by layer: the recording of one layer at a time, from its own output of the layer before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from m0_models.scan import Scan

from m0_parity import llamacpp
from m0_parity.capture import settle, sha256
from m0_parity.layerwise.slices import Slices
from m0_parity.names import LOGITS, Place, from_llamacpp
from m0_parity.recording import Collector, Recording, Request, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from m0_parity.capture import Work

    Floats = npt.NDArray[np.float32]


class ReferenceChain:
    """Feeds each layer's output to the next one; asked for layers 0, 1, ... in turn, then for the head.

    Attributes:
        outputs: by request, the last layer's output so far, (tokens, width).
    """

    def __init__(self, slices: Slices, work: Sequence[Work], settings: llamacpp.Settings, context: int) -> None:
        self._slices = slices
        self._work = work
        self._settings = settings
        self._context = context
        self.outputs: dict[str, Floats] = {}
        ids = sorted({token for item in work for token in item.tokens})
        self._row = {token: row for row, token in enumerate(ids)}
        self._ids = ids

    def layer(self, layer: int) -> Recording:
        """All checkpoints of one layer, and before layer 0 those of the embeddings too.

        Raises:
            ReferenceUnavailableError: llama.cpp refuses the layer's twin.
        """
        first = layer == 0
        recording = Recording({})
        own = self._slices.place(layer)
        path = self._slices.layer(layer, self._ids if first else None)

        def renamed(place: Place) -> Place | None:
            if place[0] == own:
                return layer, place[1]
            return place if first and place[0] < 0 and place[1] in {"embd", "inpL"} else None

        for item, collector in self._record(path, renamed, tokens=first):
            request = collector.finish(Request(item.id, item.tokens, len(item.prompt)))
            recording.requests[item.id] = request
            self.outputs[item.id] = request.rows[layer, "l_out"].values
        settle(recording)
        return recording

    def head(self, tell: Callable[[float], None] = lambda _: None) -> Recording:
        """The last norm and the logits of every token; tells the share of the vocabulary that is done."""
        recording = Recording({})
        pieces = self._slices.head_rows()
        for piece in pieces:
            path = self._slices.head(piece)
            names = {"result_norm", LOGITS} if piece.start == 0 else {LOGITS}
            for item, collector in self._record(path, lambda p, n=names: p if p[1] in n else None, tokens=False):  # type: ignore[misc]
                part = collector.finish(Request(item.id, item.tokens, len(item.prompt)))
                whole = recording.requests.setdefault(item.id, Request(item.id, item.tokens, len(item.prompt)))
                if piece.start == 0:
                    whole.rows[-1, "result_norm"] = part.rows[-1, "result_norm"]
                    room = np.empty((len(item.tokens), self._slices.vocabulary), np.float32)
                    whole.rows[-1, LOGITS] = Rows(part.rows[-1, LOGITS].positions, room, room.shape[1])
                whole.rows[-1, LOGITS].values[:, piece] = part.rows[-1, LOGITS].values
            tell(piece.stop / self._slices.vocabulary)
        return recording

    def _record(
        self, path: Path, renamed: Callable[[Place], Place | None], *, tokens: bool
    ) -> Iterator[tuple[Work, Collector]]:
        """Run every request through the file at ``path``; places are kept as ``renamed`` says."""
        at, count, collector = 0, 0, Collector()

        def place_of(name: str, op: str) -> Place | None:
            place = from_llamacpp(name, op)
            return None if place is None else renamed(place)

        def tap(tapped: llamacpp.Tapped) -> None:
            place = place_of(tapped.name, tapped.op)
            if place is not None:
                collector.add(place, at, tapped.values.reshape(count, -1))

        with (
            llamacpp.Model(path, repack=self._settings.repack) as model,
            llamacpp.Context(
                model, self._context, self._settings, tap=tap, wanted=lambda n, op: place_of(n, op) is not None
            ) as decoder,
        ):
            for item in self._work:
                decoder.reset()
                at, collector = 0, Collector()
                for count in self._steps(item):
                    if tokens:
                        decoder.decode([self._row[token] for token in item.tokens[at : at + count]])
                    else:
                        decoder.decode_embeddings(self.outputs[item.id][at : at + count])
                    at += count
                yield item, collector

    def _steps(self, item: Work) -> list[int]:
        """Tokens of each pass: the prompt in passes that reach the tap whole, then one by one."""
        width = self._settings.ubatch
        prompt = [min(width, len(item.prompt) - at) for at in range(0, len(item.prompt), width)]
        return [*prompt, *([1] * len(item.decode))]


def record_by_layer(
    path: Path, work: Sequence[Work], settings: llamacpp.Settings, *, context: int, scratch: Path
) -> Recording:
    """What llama.cpp computes on the float32 twin of ``path``, recorded whole; a layer's twin at a time in ``scratch``.

    Raises:
        ReferenceUnavailableError: no llama.cpp, or it refuses a layer.
    """
    scan = Scan(path)
    slices = Slices(scan, scratch / "layer.gguf")
    chain = ReferenceChain(slices, work, settings, context)
    described = settings.describe() | {"one_by_one": False, "context": context, "weights": "float32 twin, by layer"}
    whole = Recording(
        {
            **llamacpp.provenance(),
            "model": path.name,
            "twin_of": sha256(path),
            "architecture": scan.architecture,
            "settings": described,
        },
        {item.id: Request(item.id, item.tokens, len(item.prompt)) for item in work},
    )
    for layer in range(slices.layers + 1):
        for part in chain.layer(layer) if layer < slices.layers else chain.head():
            whole.requests[part.id].rows |= part.rows
    return whole
