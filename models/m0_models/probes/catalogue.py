"""The ready-made probes by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from m0_models.probes.bias import bias
from m0_models.probes.dice import dice
from m0_models.probes.echo import NAMES as ECHOES
from m0_models.probes.echo import echo
from m0_models.probes.memory import memory
from m0_models.probes.position import position
from m0_models.probes.script import chatter, metronome, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_models.probes.parts import Probe


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named probe: ``write(path)`` makes it; keywords (``quant``, ``form``, ``like``, ``spm``) change its form."""

    name: str
    about: str
    write: Callable[..., Probe]


def catalogue() -> dict[str, Recipe]:
    """All ready-made probes; the first of each kind is the one to use unless the file's form matters."""
    recipes = [
        Recipe("script", "next token from the current one; qwen2, Q4_0", script),
        Recipe("script-llama", "the same in llama form, Q4_0", partial(script, form="llama")),
        Recipe("script-q4-k-m", "the same, qwen2, the recipe Q4_K_M", partial(script, quant="Q4_K_M")),
        Recipe("script-mxfp4", "the same, qwen2, MXFP4 blocks", partial(script, quant="MXFP4")),
        Recipe("script-deep", "the same, 48 layers: slow to load and to run", partial(script, layers=48)),
        Recipe("chatter", "a cycle of words, one clear next word and others when warm", chatter),
        Recipe("metronome", "a cycle of 63 words, d = 64, to time everything but the model", metronome),
        Recipe("dice", "one known distribution after every token; qwen2, Q4_0", partial(dice, quant="Q4_0")),
        Recipe("dice-f32", "the same in F32", dice),
        Recipe("position", "attention sees the token three back; qwen2, Q4_0", partial(position, quant="Q4_0")),
        Recipe("position-llama", "the same in llama form", partial(position, form="llama", quant="Q4_0")),
        Recipe("memory", "attention counts what it has seen; qwen2, Q4_0", partial(memory, quant="Q4_0")),
        Recipe("bias", "the value bias decides what is said; qwen2, Q4_0", partial(bias, quant="Q4_0")),
        Recipe("memory-llama", "the same in llama form", partial(memory, form="llama", quant="Q4_0")),
    ]
    recipes += [
        Recipe(
            f"echo-{name}",
            f"says its prompt again, token by token; vocabulary {name}, {architecture}, Q4_0",
            partial(echo, name=name, quant="Q4_0"),
        )
        for name, architecture in ECHOES.items()
    ]
    return {recipe.name: recipe for recipe in recipes}
