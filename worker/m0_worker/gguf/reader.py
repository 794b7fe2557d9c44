"""A GGUF file, mapped read-only: nothing is copied until a device asks for it (M0-W-1221)."""

from __future__ import annotations

import contextlib
import mmap
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from m0_worker.gguf.errors import GgufError
from m0_worker.gguf.header import Header, TensorInfo, parse_header
from m0_worker.gguf.types import FILE_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from numpy.typing import NDArray


class GgufFile:
    """An open GGUF v3 file. Use :meth:`open`.

    Attributes:
        path: as given.
        size: bytes of the file.
        metadata: keys to Python scalars, strings and lists.
        tensors: names to records; shapes are in NumPy order, (out, in).
        alignment: of tensor data in the file, bytes.
    """

    def __init__(self, path: Path, mapping: mmap.mmap, header: Header) -> None:
        self.path = path
        self.size = len(mapping)
        self.metadata: Mapping[str, object] = header.metadata
        self.tensors: Mapping[str, TensorInfo] = header.tensors
        self.alignment = header.alignment
        self.architecture = self.text("general.architecture")
        self.name = self.text("general.name")
        self._mapping = mapping

    @classmethod
    def open(cls, path: str | Path, refuse: Callable[[Mapping[str, object]], None] | None = None) -> Self:
        """Map and validate a file (M0-W-1210, M0-W-1211).

        Args:
            path: of the file.
            refuse: called with the metadata before anything else of the file is looked at; raises to refuse it.

        Raises:
            GgufError: unreadable, damaged, or outside the hard limits; says what, where and the cure.
        """
        path = Path(path)

        def refuse_first(metadata: Mapping[str, object]) -> None:
            _refuse_part(metadata, path)
            if refuse is not None:
                refuse(metadata)

        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for somebody to write into it
                cure = "give the path of a GGUF file"
                raise GgufError("unreadable", "cannot read the model: no regular file", where=str(path), cure=cure)
            with path.open("rb") as file:
                mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as e:
            cure = "give the path of a readable GGUF file"
            raise GgufError("unreadable", f"cannot read the model: {e.strerror}", where=str(path), cure=cure) from e
        except ValueError:  # mmap refuses an empty file
            raise GgufError("truncated", "the file is empty", where=str(path), cure="download it again") from None
        return cls(path, mapping, parse_header(memoryview(mapping), str(path), refuse_first))

    def text(self, key: str) -> str:
        """The string under a required key.

        Raises:
            GgufError: missing, or no string.
        """
        value = self.require(key)
        if not isinstance(value, str):
            raise self.fail("bad-value", f"key {key} must be a string, not {value!r:.60}")
        return value

    def require(self, key: str) -> object:
        """The value under a required key.

        Raises:
            GgufError: missing.
        """
        if key not in self.metadata:
            raise self.fail("missing-key", f"required metadata key {key} is missing")
        return self.metadata[key]

    def fail(self, reason: str, what: str) -> GgufError:
        """An error about this file, for the caller to raise."""
        return GgufError(reason, what, where=str(self.path), cure="convert the model again with a current converter")

    def raw(self, name: str) -> NDArray[np.uint8]:
        """The stored bytes of a tensor, a read-only view on the mapping.

        Raises:
            GgufError: there is no such tensor.
        """
        if name not in self.tensors:
            raise self.fail("missing-tensor", f"tensor {name} is missing")
        info = self.tensors[name]
        return np.frombuffer(self._mapping, np.uint8, info.nbytes, info.offset)

    @property
    def file_type(self) -> str:
        """The quantization recipe, such as ``Q4_K_M``: general.file_type, else the type of most weight bytes."""
        code = self.metadata.get("general.file_type")
        if isinstance(code, int) and code in FILE_TYPES:
            return FILE_TYPES[code]
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.type.name] = sizes.get(tensor.type.name, 0) + tensor.nbytes
        return max(sizes, key=lambda name: sizes[name], default="F32")

    def release(self) -> None:
        """Give the pages of the mapping back to the system; a view that is still read brings its own in again."""
        self._mapping.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Give the mapping back; views still alive keep it until they go."""
        with contextlib.suppress(BufferError):
            self._mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _refuse_part(metadata: Mapping[str, object], path: Path) -> None:
    """A model split into several files is refused by name: its other keys and tensors are in other files."""
    parts = metadata.get("split.count")
    if isinstance(parts, int) and parts > 1:
        number = metadata.get("split.no")
        which = f"part {number + 1} of {parts}" if isinstance(number, int) else f"one of {parts} parts"
        cure = "join the parts with llama.cpp's llama-gguf-split --merge and give the whole file"
        what = f"the file is {which}, and models in parts are not supported"
        raise GgufError("model-in-parts", what, where=str(path), cure=cure)
