"""Files as a mistaken engine takes them: the change of a file under which a right engine computes what it computes.

So such a mistake can be made without touching an engine: give a right one the edited file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from m0_models.readouts.arithmetic import gelu_tanh
from m0_models.readouts.network import Network

if TYPE_CHECKING:
    from m0_models.readouts.arithmetic import Array

Edit = Callable[[Network], Network]
Order = npt.NDArray[np.intp]


def tensors(change: Callable[[str, Array, Network], Array]) -> Edit:
    """Every tensor through ``change(name, values, network)``."""
    return lambda n: Network(n.shape, {name: change(name, values, n) for name, values in n.tensors.items()})


def sizes(**changes: object) -> Edit:
    """Another metadata value, by its name in Shape."""
    return lambda n: Network(replace(n.shape, **changes), n.tensors)  # type: ignore[arg-type]  # checked by replace itself


def zeroed(*endings: str) -> Edit:
    """Zeros in the tensors with these endings: a bias left out."""
    return tensors(lambda name, values, _: np.zeros_like(values) if name.endswith(endings) else values)


def ones(*endings: str) -> Edit:
    """Ones in the tensors with these endings: a scale left out."""
    return tensors(lambda name, values, _: np.ones_like(values) if name.endswith(endings) else values)


def scaled(factor: Callable[[Network], float], *endings: str) -> Edit:
    """The tensors with these endings times a factor."""
    return tensors(lambda name, values, n: values * factor(n) if name.endswith(endings) else values)


def exchanged(first: str, second: str) -> Edit:
    """Two tensors of every layer, each under the other's name."""

    def edit(network: Network) -> Network:
        def other(name: str) -> str:
            return name.replace(first, second) if first in name else name.replace(second, first)

        return Network(network.shape, {name: network.tensors[other(name)] for name in network.tensors})

    return edit


def _heads(change: Callable[[Array, Network], Array], parts: str) -> Edit:
    """Queries and keys through ``change``, which gets (heads, head_dim, ...) and the network."""

    def edit(network: Network) -> Network:
        s, changed = network.shape, dict(network.tensors)
        for name, values in network.tensors.items():
            if ".attn_qkv." in name:
                split = dict(zip("qkv", np.split(values, [s.queries, s.queries + s.keys]), strict=True))
                for part in parts:
                    split[part] = _by_head(split[part], s.head_dim, change, network)
                changed[name] = np.concatenate(list(split.values()))
            elif any(f".attn_{part}." in name for part in parts):
                changed[name] = _by_head(values, s.head_dim, change, network)
        return Network(s, changed)

    return edit


def _by_head(values: Array, head_dim: int, change: Callable[[Array, Network], Array], network: Network) -> Array:
    return change(values.reshape(-1, head_dim, *values.shape[1:]), network).reshape(values.shape)


def queries(factor: Callable[[Network], float], *, keys: bool = False) -> Edit:
    """Queries, and keys where asked, times a factor: another scale of attention scores."""
    return _heads(lambda x, n: x * factor(n), "qk" if keys else "q")


def _pair_order(network: Network) -> Order:
    """Features of a head in the order in which the architecture's other pairing finds its pairs."""
    s = network.shape
    half, whole = s.rotated // 2, np.arange(s.head_dim)
    if s.architecture == "llama":  # the engine takes (j, j + half) for a pair: put them where (2j, 2j + 1) is read
        whole[: 2 * half] = np.arange(2 * half).reshape(2, half).T.reshape(-1)
    else:
        whole[: 2 * half] = np.arange(2 * half).reshape(half, 2).T.reshape(-1)
    return whole


def _pairs(network: Network) -> tuple[Order, Order]:
    half = network.shape.rotated // 2
    j = np.arange(half)
    return (2 * j, 2 * j + 1) if network.shape.architecture == "llama" else (j, j + half)


def other_pairing(network: Network) -> Network:
    """Queries and keys as an engine sees them that rotates the other form's pairs."""
    return _heads(lambda x, n: x[:, _pair_order(n)], "qk")(network)


def backwards(network: Network) -> Network:
    """The second of each rotated pair negated in queries and keys: rotation runs backwards."""

    def mirrored(x: Array, n: Network) -> Array:
        y = x.copy()
        y[:, _pairs(n)[1]] *= -1
        return y

    return _heads(mirrored, "qk")(network)


def groups(order: Callable[[int, int], Order]) -> Edit:
    """Query heads (and what reads them) moved to where the engine takes their key head from; ``order(H, G)``."""

    def edit(network: Network) -> Network:
        s = network.shape
        wanted = order(s.heads, s.kv_heads)
        places = np.argsort(wanted, kind="stable")  # place p, whose key head is p // (H / G), holds head places[p]
        changed = _heads(lambda x, _: x[places], "q")(network).tensors
        for name, values in network.tensors.items():
            if name.endswith("attn_output.weight"):
                by_head = values.reshape(len(values), s.heads, s.head_dim)
                changed[name] = by_head[:, places].reshape(values.shape)
            if name.endswith("attn_sinks.weight"):
                changed[name] = values[places]
        return Network(s, changed)

    return edit


def first_group(network: Network) -> Network:
    """Every key-value head as the first one."""
    return _heads(lambda x, _: np.repeat(x[:1], len(x), axis=0), "kv")(network)


def fused_order(order: str) -> Edit:
    """Rows of a fused projection taken in another order than query, key, value; the three are of one size."""

    def change(name: str, values: Array, network: Network) -> Array:
        if ".attn_qkv." not in name:
            return values
        s = network.shape
        parts = dict(zip("qkv", np.split(values, [s.queries, s.queries + s.keys]), strict=True))
        taken = dict(zip(order, parts.values(), strict=True))
        return np.concatenate([taken[part] for part in "qkv"])

    return tensors(change)


def fused_by_head(name: str, values: Array, network: Network) -> Array:
    """Rows of a fused projection taken as one (query, key, value) triple a head; for :func:`tensors`."""
    if ".attn_qkv." not in name:
        return values
    s = network.shape
    split = values.reshape(s.heads, 3, s.head_dim, *values.shape[1:])
    return np.moveaxis(split, 1, 0).reshape(values.shape)


def halves_exchanged(name: str, values: Array, _network: Network) -> Array:
    """Gate and up rows of a fused feed-forward projection in the other order; for :func:`tensors`."""
    return np.concatenate(np.split(values, 2)[::-1]) if name.endswith("ffn_up.weight") else values


def positions(rows: Callable[[Order, int], Order]) -> Edit:
    """The position table with its rows taken elsewhere: ``rows(positions, length)``."""

    def change(name: str, values: Array, _network: Network) -> Array:
        return values[rows(np.arange(len(values)), len(values))] if name == "position_embd.weight" else values

    return tensors(change)


def activated(activation: Callable[[Array], Array]) -> Edit:
    """Another activation where its input is the up projection's bias alone: the down projection scaled to match."""

    def edit(network: Network) -> Network:
        changed = dict(network.tensors)
        for name, bias in network.tensors.items():
            if name.endswith("ffn_up.bias"):
                down = name.replace("ffn_up.bias", "ffn_down.weight")
                changed[down] = network.tensors[down] * (activation(bias) / gelu_tanh(bias))
        return Network(network.shape, changed)

    return edit


def unbiased(network: Network) -> Network:
    """Norm weights less by what the unbiased deviation is greater than the biased one."""
    width = network.shape.width
    return scaled(lambda _: math.sqrt((width - 1) / width), "norm.weight")(network)


def magnitude(network: Network) -> float:
    """What takes YaRN's factor on cosine and sine back out of queries or keys."""
    return 1 / (1 + 0.1 * math.log(network.shape.yarn_factor))
