"""Checks of token bytes become text: characters, end of sequence, any prompt."""

from __future__ import annotations

from m0_conformance.run.known_texts import LONG, scripts
from m0_conformance.run.situation import Situation, launch, repeated, requirement

BYTES = 2000
BATTERY = (
    "tab\there", "two\nlines\n", "carriage\r\nreturn", "control \x01\x1b[0m\x7f", "what? why?? really?!", "?", " ",
    "Привет, мир", "你好世界", "مرحبا بالعالم", "नमस्ते दुनिया", "e\u0301 combining", "👨‍👩‍👧 🇩🇪 😀",
    "\u200b\u2028\ufeff", "\n",
    "<|endoftext|>", "<|im_start|>user\nhi<|im_end|>", "<s>[INST] hi [/INST]</s>", "<0x0A>",
    '{"a": [1]}', "\\u0041 \\n",
    "a" * 300, "1234567890" * 20, "\x00", "\U0010ffff",
)  # fmt: skip


LONG_TEXTS = {
    f"{len(character.encode())}-byte characters from byte {offset} on": "a" * offset
    + character * (BYTES // len(character.encode()))
    for character in "é世😀"
    for offset in range(len(character.encode()))
}
"""Texts of 2,000 bytes in which every byte number lies inside a character of some text: a cut by bytes shows."""


@repeated(without=["prompt"])
@requirement("M0-W-1362/any-prompt", "M0-W-1362/no-internal-alphabet")
async def test_prompts_of_any_characters(situation: Situation) -> None:
    """Tabs, control characters, other scripts, the texts of special tokens; and ordinary texts."""
    for prompt in BATTERY:
        await situation.execute("battery", prompt=prompt, max_tokens=2, temperature=0.0)
    for prompt in LONG_TEXTS.values():
        await situation.execute("battery", prompt=prompt, max_tokens=2, temperature=0.0)
    for name in ("words", "utf8"):
        length = situation.pace.shorter(24, 12, 2.0)
        await situation.execute("text", prompt=situation.prompt(name), max_tokens=length, temperature=0.0)


@repeated()
@requirement(
    "M0-W-1362/text-exact",
    "M0-W-1362/holds-incomplete",
    "M0-W-1362/invalid-byte",
    "M0-W-1362/unfinished-at-end",
    "M0-W-1362/eos-ends",
    "M0-W-1362/eos-silent",
    "M0-W-1420/next-token",
)
@launch("script")
async def test_known_texts(situation: Situation) -> None:
    """Every script at temperature 0; and one job that ends in the middle of a character."""
    promised = scripts(situation)
    for name, script in promised.items():
        await situation.execute(f"script {name}", prompt=script["prompt"], max_tokens=LONG, temperature=0.0)
    # " utf" and the first of the two bytes of é
    await situation.execute("cut by max_tokens", prompt=promised["utf8"]["prompt"], max_tokens=2, temperature=0.0)


@requirement("M0-W-1824/no-replacement")
@launch("script")
async def test_multibyte_text_at_the_specs_temperature(situation: Situation) -> None:
    """As M0-W-1824 has it: 20 tokens, temperature 0.7."""
    promised = scripts(situation)
    for name in ("utf8", "joined"):
        if name not in promised:  # a model's own vocabulary cannot say it
            continue
        await situation.execute(
            f"multibyte {name}", prompt=promised[name]["prompt"], max_tokens=20, temperature=0.7, seed=42
        )
