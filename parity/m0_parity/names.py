"""One vocabulary for checkpoints, and how llama.cpp's graph and the worker's taps translate into it.

The names are llama.cpp's, with two differences: queries and keys before the rotary embedding are ``Qpre`` and ``Kpre``
(llama.cpp reuses ``Qcur`` for up to four nodes), and the norm before the feed-forward block and that block's output
have one name each, also in gpt-oss. Source: the cb() calls in llama.cpp's src/models and its build_* helpers.
"""

from __future__ import annotations

import re
from typing import Final

MEANING: Final = {
    "embd": "the tokens' embeddings",
    "inpL": "embeddings plus learned positions",
    "attn_norm": "the norm before attention",
    "Qpre": "the queries before rotation (RoPE)",
    "Kpre": "the keys before rotation (RoPE)",
    "Vcur": "the values",
    "Qcur": "the queries as attention sees them",
    "Kcur": "the keys as attention sees them",
    "kqv_out": "what attention gathers",
    "ffn_inp": "the sum behind attention",
    "ffn_norm": "the norm before the feed-forward block",
    "ffn_moe_probs": "the router's scores",
    "ffn_moe_topk": "the experts chosen",
    "ffn_moe_weights_softmax": "the chosen experts' weights",
    "ffn_gate": "the gate projection",
    "ffn_up": "the up projection",
    "ffn_up_b": "the up projection with its bias",
    "ffn_swiglu": "gate times up, behind SiLU",
    "ffn_gelu": "behind GELU",
    "ffn_out": "the feed-forward block's output",
    "l_out": "the layer's output",
    "result_norm": "the last norm",
    "result_output": "the logits",
}
"""Canonical names in the order in which a layer computes them, and what each is."""
ORDER: Final = tuple(MEANING)
LOGITS: Final = "result_output"
INTEGERS: Final = frozenset({"ffn_moe_topk"})

_RANK: Final = {name: rank for rank, name in enumerate(ORDER)}
_ALIASES: Final = {"attn_post_norm": "ffn_norm", "ffn_moe_out": "ffn_out", "inp_embd": "embd"}
_NODE: Final = re.compile(r"^(?P<name>[^ ]+?)(?:-(?P<layer>\d+))?$")
_BEFORE_ROPE: Final = {"Qcur": "Qpre", "Kcur": "Kpre"}
# Views and reshapes repeat a value under its name; only of these is a view the one to take.
_VIEWS: Final = frozenset({"VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE", "NONE"})
_TAKEN_AS_VIEW: Final = frozenset({"Qcur", "Kcur", "Vcur", "ffn_moe_topk", "kqv_out", "ffn_moe_weights_softmax"})

Place = tuple[int, str]
"""(layer, canonical name); layer -1 is outside the layers."""


def rank(place: Place) -> tuple[int, int]:
    """Sort key: the order in which a forward pass computes places."""
    layer, name = place
    outside = layer < 0
    if outside:
        layer = -1 if name in {"embd", "inpL"} else 1 << 30
    return layer, _RANK[name]


def told(place: Place) -> str:
    """A place for people: "Vcur of layer 3, the values"."""
    layer, name = place
    return f"{name if layer < 0 else f'{name} of layer {layer}'}, {MEANING.get(name, 'a checkpoint')}"


def canonical(name: str) -> str:
    """A checkpoint's canonical name: aliases resolved, unknown names unchanged."""
    return _ALIASES.get(name, name)


def from_llamacpp(node: str, op: str) -> Place | None:
    """The place of a graph node of llama.cpp, or None for nodes that are no checkpoint."""
    match = _NODE.match(node)
    if match is None:
        return None
    name = canonical(match["name"])
    layer = -1 if match["layer"] is None else int(match["layer"])
    if op in _VIEWS and name not in _TAKEN_AS_VIEW:
        return None
    if name in _BEFORE_ROPE:
        if op in _VIEWS:
            return layer, _BEFORE_ROPE[name]
        return (layer, name) if op == "ROPE" else None
    if name == "Vcur" and op not in _VIEWS:
        return None
    return (layer, name) if name in _RANK else None


def from_worker(name: str, layer: int, occurrence: int) -> Place | None:
    """The place of a worker tap; ``occurrence`` counts from 0 how often (name, layer) was seen in this pass."""
    name = canonical(name)
    if name in _BEFORE_ROPE and occurrence == 0:
        return layer, _BEFORE_ROPE[name]
    return (layer, name) if name in _RANK else None


WORKER_NAMES: Final = (frozenset(ORDER) | _ALIASES.keys()) - {"Qpre", "Kpre", "inp_embd"}
"""What to ask the worker's tap for."""


def without_rope(places: set[Place]) -> dict[Place, Place]:
    """Renames for models without a rotary embedding, where "before" is all there is: Qpre becomes Qcur."""
    return {
        (layer, pre): (layer, name)
        for name, pre in _BEFORE_ROPE.items()
        for layer, seen in places
        if seen == pre and (layer, name) not in places
    }
