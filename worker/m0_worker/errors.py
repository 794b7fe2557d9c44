"""The worker's errors: the eight stable codes of M0-W-1500 and the exceptions that carry them.

The set of codes is closed. Conditions that the spec gives no code of their own use the nearest one and say in their
message what happened: a full waiting line and a draining worker answer INTERNAL with HTTP 503 and `retriable`.
"""

from __future__ import annotations

from enum import Enum


class Code(Enum):
    """A stable error code, its HTTP status (spec section 17.4) and whether repeating the same request can help."""

    INVALID_REQUEST = ("INVALID_REQUEST", 400, False)
    MODEL_LOAD_FAILED = ("MODEL_LOAD_FAILED", 500, False)
    INSUFFICIENT_VRAM = ("INSUFFICIENT_VRAM", 503, False)
    VRAM_OOM = ("VRAM_OOM", 500, True)
    CUDA_ERROR = ("CUDA_ERROR", 500, True)
    INFERENCE_TIMEOUT = ("INFERENCE_TIMEOUT", 504, True)
    CANCELLED = ("CANCELLED", 499, False)
    INTERNAL = ("INTERNAL", 500, True)

    def __init__(self, label: str, status: int, retriable: bool) -> None:
        self.label = label  # part of the value, for members with equal values would be aliases of one another
        self.status = status
        self.retriable = retriable


class CudaStatus(Enum):
    """The integer codes of M0-W-1501 with the messages that go with them."""

    SUCCESS = (0, "Success")
    DEVICE_NOT_FOUND = (1, "No such CUDA device")
    OUT_OF_MEMORY = (2, "Out of device memory")
    INVALID_DEVICE = (3, "Invalid device")
    MODEL_LOAD_FAILED = (4, "Model load failed")
    INFERENCE_FAILED = (5, "Inference failed")
    RESIDENCY_FAILED = (6, "Weights are not resident in device memory")
    KERNEL_LAUNCH_FAILED = (7, "Kernel launch failed")
    UNKNOWN = (99, "Unknown error")

    def __init__(self, number: int, message: str) -> None:
        self.number = number
        self.message = message

    @classmethod
    def of(cls, number: int) -> CudaStatus:
        """The status with this number; UNKNOWN for a number outside M0-W-1501."""
        return next((status for status in cls if status.number == number), cls.UNKNOWN)


class WorkerError(Exception):
    """An error with a stable code. `retriable` defaults to what the code says.

    `facts` are further fields for the narrated error event (bytes needed, bytes available, the native code).
    """

    code = Code.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        retriable: bool | None = None,
        facts: dict[str, int | str | None] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.retriable = self.code.retriable if retriable is None else retriable
        self.facts = facts or {}


class ModelLoadError(WorkerError):
    """The model file cannot be served: damaged, incomplete, of an unknown architecture or tokenizer (M0-W-1111)."""

    code = Code.MODEL_LOAD_FAILED


class DeviceError(WorkerError):
    """The device failed or cannot be used: absent, wrong index, driver trouble. The message names the cure.

    Attributes:
        status: the code of M0-W-1501 that says how.
    """

    code = Code.CUDA_ERROR

    def __init__(self, message: str, *, status: CudaStatus = CudaStatus.UNKNOWN) -> None:
        super().__init__(message, facts={"cuda_status": status.number})
        self.status = status


class OutOfMemory(WorkerError):  # noqa: N818 - the name the field uses
    """The device cannot hold what was asked for; nothing stays allocated.

    While a model loads this becomes INSUFFICIENT_VRAM and exit 1 (M0-W-1020), inside a job VRAM_OOM (M0-W-1021).

    Attributes:
        purpose: `weights`, `kv` or `intermediates`.
        needed: bytes asked for.
        available: bytes that were free.
    """

    code = Code.VRAM_OOM

    def __init__(self, purpose: str, *, needed: int, available: int) -> None:
        super().__init__(
            f"{purpose} need {needed} bytes but {available} bytes are available",
            facts={"bytes_needed": needed, "bytes_available": available},
        )
        self.purpose = purpose
        self.needed = needed
        self.available = available
