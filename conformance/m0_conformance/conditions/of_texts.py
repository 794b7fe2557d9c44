"""How long a text is asked for, how far it has come, and what letters the token at hand brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m0_conformance.conditions.grid import level
from m0_conformance.conditions.of_values import within

if TYPE_CHECKING:
    from m0_conformance.conditions.scene import Scene


@level("length", "one")
def length_one(scene: Scene) -> bool:
    """One token is asked for."""
    return scene.number_of("max_tokens") == 1


@level("length", "short", usual=True)
def length_short(scene: Scene) -> bool:
    """2 to 64 tokens are asked for."""
    return within(scene, "max_tokens", 2, 64)


@level("length", "medium")
def length_medium(scene: Scene) -> bool:
    """65 to 1,499 tokens are asked for."""
    return within(scene, "max_tokens", 65, 1499)


@level("length", "long")
def length_long(scene: Scene) -> bool:
    """1,500 tokens or more are asked for, or as many as may be."""
    return "max_tokens" not in scene.job or within(scene, "max_tokens", 1500, 2048)


@level("place", "first", "token")
def place_first(scene: Scene) -> bool:
    """It is the text's first token."""
    return scene.tokens == 0


@level("place", "second", "token")
def place_second(scene: Scene) -> bool:
    """It is the text's second token."""
    return scene.tokens == 1


@level("place", "beyond-64", "token")
def place_beyond_64(scene: Scene) -> bool:
    """64 tokens came before."""
    return scene.tokens >= 64


@level("place", "beyond-1000", "token")
def place_beyond_1000(scene: Scene) -> bool:
    """1,000 tokens came before."""
    return scene.tokens >= 1000


@level("said", "multi-byte", "token")
def said_multi_byte(scene: Scene) -> bool:
    """The token's text has letters of two or three bytes."""
    return any(0x80 <= ord(letter) < 0x10000 for letter in scene.said or "")


@level("said", "astral", "token")
def said_astral(scene: Scene) -> bool:
    """The token's text has characters above U+FFFF."""
    return any(ord(letter) >= 0x10000 for letter in scene.said or "")


@level("said", "control", "token")
def said_control(scene: Scene) -> bool:
    """The token's text has control characters."""
    return any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in scene.said or "")


@level("said", "leading-space", "token")
def said_leading_space(scene: Scene) -> bool:
    """The token's text begins with a space."""
    return (scene.said or "").startswith(" ")


@level("said", "nothing", "token")
def said_nothing(scene: Scene) -> bool:
    """The token has no text: its bytes wait for more, or it is silent."""
    return scene.said == ""
