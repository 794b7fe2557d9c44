"""A small text in many scripts, for training vocabularies: own sentences and seeded noise, equal on every platform."""

# ruff: noqa: RUF001  (characters that look alike are what a tokenizer must tell apart)

from __future__ import annotations

import random
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

SENTENCES: Final = (
    "The worker loads one model, answers one request at a time, and says what it does.",
    "She'll say it's fine; they're sure we've seen that I'd go, and you're late, aren't you?",
    "IT'S LOUD: WE'LL SHOUT, THEY'RE HERE, I'M READY, DON'T WAIT.",
    "A haiku has three lines: five syllables, then seven, then five again.",
    "def encode(self, text: str) -> list[int]:\n    return [self.ids[t] for t in self.split(text)]\n",
    "    if (count == 0) {\n\t\treturn -1;  // nothing left\r\n    }\r\n",
    "https://example.org/path/to/page?id=42&lang=en#top  user@example.org",
    "Order 66 costs $1,234.56 (+7.5 %), due 2025-11-30 at 23:59:59; call 0800 123456789.",
    "camelCaseName PascalCaseName SCREAMING_SNAKE_CASE kebab-case-name HTTPServerError iPhone15Pro",
    "Größe, Straße, Äpfel und Öl: über schöne Fußgängerübergänge.",
    "L'été dernier, où étais-tu ? Ça n'a pas d'importance, déjà vu, cœur, naïve.",
    "¿Qué pasó mañana? ¡Año nuevo, niño! Łódź, žluťoučký kůň, İstanbul'da ığdır.",
    "Быстрая лиса прыгает через ленивую собаку. ЭТО ВАЖНО, Да?",
    "Η γρήγορη αλεπού πηδά. ΆΝΘΡΩΠΟΣ και Θάλασσα.",
    "大语言模型在显卡上运行。你好，世界！三行俳句：五、七、五。",
    "古池や蛙飛び込む水の音。カタカナとひらがな、ﾊﾝｶｸも。",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다.",
    "السلام عليكم ورحمة الله ١٢٣٤٥ שלום עולם",
    "नमस्ते दुनिया, हिन्दी में १२३ வணக்கம் สวัสดีชาวโลก",
    "Emoji 😀😃 🚀 👩‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ ✨ and marks e\u0301 o\u0308 n\u0303 Z͑a͛l͟g͓o͢.",
    "x² + y² ≤ ½·π ≠ ∞, ∑ᵢ aᵢ → ∀ε>0 ∃δ; ⅷ Ⅻ ①②③ ٣٫١٤ 𝒳𝟘𝟙 𐐀𐐨 €£¥",
    "<html><body class=\"a b\">&amp; 'quoted' “curly” ‘it’s’ — dash – … «guillemets»</body></html>",
    "\n\n\n   \n \t \r\n  \u00a0\u2003\u3000 end of space  \n\n",
    "aaaa aaaaaaaa AAAA zzzzzzz 1111 11111111 ======== -------- ******** ........ !!!! ????",
)

_SYLLABLES: Final = (
    "ka", "ro", "mi", "ten", "sol", "ver", "ing", "tion", "er", "est", "pre", "con", "ly", "un", "re",
    "ph", "qu", "sch",
)  # fmt: skip


@cache
def corpus(seed: int = 0, words: int = 1200) -> str:
    """The sentences, then `words` made-up words in every case, with digits, contractions and white space between.

    Only `Random.random` is drawn from: its sequence is the one that Python promises to keep.
    """
    draw = random.Random(seed)  # noqa: S311  (a text, not a secret)

    def pick(items: Sequence[str]) -> str:
        return items[int(draw.random() * len(items))]

    parts = list(SENTENCES)
    for _ in range(words):
        word = "".join(pick(_SYLLABLES) for _ in range(1 + int(draw.random() * 3)))
        shape = pick(("lower", "lower", "lower", "title", "upper", "digits", "contraction"))
        match shape:
            case "title":
                word = word.title()
            case "upper":
                word = word.upper()
            case "digits":
                word = str(int(draw.random() * 10 ** (1 + int(draw.random() * 6))))
            case "contraction":
                word += pick(("'s", "'ll", "'re", "'ve", "'t", "'m", "'d", "'S", "'LL", "’s"))
            case _:
                pass
        parts.append(word + pick((" ", " ", " ", " ", ", ", ". ", ".\n", "\n", "  ", "/", "-", "")))
    return "".join(parts)
