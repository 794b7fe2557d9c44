"""What a GGUF file can be refused for."""

from __future__ import annotations


class GgufError(Exception):
    """A GGUF file that cannot be used.

    Attributes:
        reason: a stable word for programs: ``bad-magic``, ``truncated``, ``missing-key`` and so on.
        what: what is wrong, in a sentence part.
        where: the file, key, tensor or byte offset concerned.
        cure: what the operator can do about it.
    """

    def __init__(self, reason: str, what: str, *, where: str, cure: str) -> None:
        super().__init__(f"{what} ({where}); {cure}")
        self.reason = reason
        self.what = what
        self.where = where
        self.cure = cure
