"""Token bytes become text only at character boundaries (spec section 14.1 #2, M0-W-1362)."""

from __future__ import annotations

import codecs

_DECODER = codecs.getincrementaldecoder("utf-8")
_FIRST_SURROGATE = b"\xed\xa0"


class Utf8Buffer:
    """Collects bytes and gives out complete characters.

    An incomplete character waits for its remaining bytes. Bytes that can belong to no character become U+FFFD, one for
    each maximal subpart (Unicode 15, section 3.9, table 3-8), and never block what follows. Bytes still waiting at the
    end of a job are dropped with the buffer (reading E-UTF8).
    """

    def __init__(self) -> None:
        self._decoder = _DECODER(errors="replace")

    def feed(self, data: bytes) -> str:
        """The characters that `data` completes; "" while one is still incomplete."""
        text = self._decoder.decode(data)
        waiting = self._decoder.getstate()[0]
        # Python waits for the third byte of a surrogate, which can be no character whatever follows.
        if waiting[:1] == b"\xed" and waiting >= _FIRST_SURROGATE:
            self._decoder.reset()
            text += waiting.decode(errors="replace")
        return text
