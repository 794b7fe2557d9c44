"""The eight stable error codes (M0-W-1500), and the exceptions that carry them."""

from __future__ import annotations

from enum import Enum


class Code(Enum):
    """A stable code. There is no ninth: what has no code of its own takes the nearest and says the rest in words."""

    INVALID_REQUEST = "INVALID_REQUEST"
    MODEL_LOAD_FAILED = "MODEL_LOAD_FAILED"
    INSUFFICIENT_VRAM = "INSUFFICIENT_VRAM"
    VRAM_OOM = "VRAM_OOM"
    CUDA_ERROR = "CUDA_ERROR"
    INFERENCE_TIMEOUT = "INFERENCE_TIMEOUT"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"

    @property
    def retriable(self) -> bool:
        """Whether the same request may succeed later (M0-W-1510)."""
        return self in {Code.VRAM_OOM, Code.CUDA_ERROR, Code.INFERENCE_TIMEOUT, Code.INTERNAL}


class LoadError(Exception):
    """The start fails (M0-W-1111). `facts` are further fields of the logged error."""

    def __init__(self, message: str, code: Code = Code.MODEL_LOAD_FAILED, **facts: int) -> None:
        super().__init__(message)
        self.code = code
        self.facts = facts


class JobError(Exception):
    """An accepted job ends with an `error` event of this code."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class RefusedError(Exception):
    """A request is answered with a status and an error body instead of a stream.

    `errors` has one entry for each thing wrong: field, constraint, message (M0-W-1302).
    """

    def __init__(
        self,
        status: int,
        message: str,
        errors: list[dict[str, str]] | None = None,
        code: Code = Code.INVALID_REQUEST,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, object] = {
            "code": code.value,
            "message": message,
            "retriable": code.retriable,
            **({"errors": errors} if errors else {}),
        }
