"""Wrong ideas of which token sees which: (T, T) masks of T tokens of which the first ``prompt`` were given."""

from __future__ import annotations

import numpy as np

from m0_models.readouts.arithmetic import Mask, causal


def looks_ahead(count: int, prompt: int) -> Mask:
    """A prompt's token sees the one after it."""
    mask = causal(count, prompt)
    rows = np.arange(prompt - 1)
    mask[rows, rows + 1] = True
    return mask


def not_itself(count: int, prompt: int) -> Mask:
    """No token but the first sees itself."""
    mask = causal(count, prompt)
    rows = np.arange(1, count)
    mask[rows, rows] = False
    return mask


def prompt_sees_all(count: int, prompt: int) -> Mask:
    """All tokens of the prompt see each other."""
    mask = causal(count, prompt)
    mask[:prompt, :prompt] = True
    return mask


def first_lost(count: int, prompt: int) -> Mask:
    """No later token sees the first."""
    mask = causal(count, prompt)
    mask[1:, 0] = False
    return mask


def tail_lost(count: int, prompt: int) -> Mask:
    """Generated tokens don't see the prompt's last one."""
    mask = causal(count, prompt)
    mask[prompt:, prompt - 1] = False
    return mask


def prompt_lost(count: int, prompt: int) -> Mask:
    """Generated tokens don't see the prompt."""
    mask = causal(count, prompt)
    mask[prompt:, :prompt] = False
    return mask


def own_lost(count: int, prompt: int) -> Mask:
    """Generated tokens don't see themselves."""
    mask = causal(count, prompt)
    rows = np.arange(prompt, count)
    mask[rows, rows] = False
    return mask


def odd_layers(window: int, layer: int) -> int:
    """The window of a layer where every second one slides, starting with the wrong one."""
    return window if layer % 2 else 0
