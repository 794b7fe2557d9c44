"""What the start of a CUDA worker does beside the device's initialization and the copying of weights.

The model file is opened while the device is initialized, its kernels begin to compile as soon as its header is known,
and the HTTP libraries are imported once the model will not be refused: nothing of that waits for the device, and the
device does not wait for it.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING

from m0_worker.opening import open_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_worker.config import WorkerConfig
    from m0_worker.gguf import GgufFile
    from m0_worker.tokenizers import Tokenizer


class Opening:
    """A model file that is opened: when it is asked for on a CPU, in a thread beside a CUDA device's initialization.

    Attributes:
        before: what the file system said of the file before it was opened; there once ``result()`` has returned.
    """

    before: os.stat_result

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._opened: Future[tuple[GgufFile, Tokenizer]] = Future()
        self._libraries: threading.Thread | None = None
        self._compiles = False
        if config.device == "cuda":
            threading.Thread(target=self._open_beside, name="opening").start()

    def result(self) -> tuple[GgufFile, Tokenizer]:
        """The file and its tokenizer.

        Raises:
            GgufError, ModelError, TokenizerError: as :func:`open_model`.
            OSError: there is no file any more.
        """
        if self._config.device != "cuda":
            return self._open(None)
        opened = self._opened.result()
        if self._compiles:  # else something is wrong with the model, and its refusal must not wait for libraries
            self._libraries = threading.Thread(target=_import_libraries, name="libraries")
            self._libraries.start()
        return opened

    def join(self) -> None:
        """Wait for the HTTP libraries, if they are being imported."""
        if self._libraries is not None:
            self._libraries.join()

    def _open(self, opened: Callable[[GgufFile], None] | None) -> tuple[GgufFile, Tokenizer]:
        self.before = self._config.model.stat()
        return open_model(self._config.model, opened)

    def _open_beside(self) -> None:
        try:
            self._opened.set_result(self._open(self._compile))
        except BaseException as error:  # noqa: BLE001 - told by result(), in the order of start-up
            self._opened.set_exception(error)

    def _compile(self, gguf: GgufFile) -> None:
        with suppress(Exception):  # whatever is wrong is found again by the loader, which says it
            from m0_worker.devices.cuda import ahead  # noqa: PLC0415 - a CPU worker has no CuPy

            ahead.begin(gguf, self._config.gpu_device, "f16" if self._config.kv_cache_type == "f16" else "f32")
            self._compiles = True


def _import_libraries() -> None:
    with suppress(Exception):  # the server's own import says what is wrong
        import m0_worker.http.app  # noqa: PLC0415 - beside the device's work
        import m0_worker.http.server  # noqa: F401, PLC0415 - the same


def leave_compilers(code: int) -> None:
    """End the process with an exit code if something still compiles, which an ordinary end would wait for."""
    compiler = sys.modules.get("m0_worker.devices.cuda.compiler")
    if compiler is not None and compiler.busy():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
