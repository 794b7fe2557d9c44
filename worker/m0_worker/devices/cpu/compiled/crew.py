"""Several cores at one product: helpers that wait in compiled code for pieces of it, as long as a job is decoding.

Decode has a hundred products a token, each a fraction of a millisecond. Waking a thread through the operating system
takes a good part of that, so a helper, once awake, looks for work in a few words of shared memory, the board, and goes
to sleep when it found none for a while. Pieces are fixed when a model is loaded; who takes which is chance, and makes
no difference to the sums.
"""

from __future__ import annotations

import functools
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import register_jitable

from m0_worker.devices.cpu.compiled.vectors import on_x86, operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Words of the board, each in a cache line of its own where both sides write it.
OPEN, NEXT, INSIDE, STOP, SERVED = 0, 8, 16, 24, 32
PIECES, N_PIECES, X, OUT = 40, 41, 42, 43
BOARD = 48
PIECE = 5  # words of a piece

_I64 = ir.IntType(64)
_IDLE = 30_000  # looks at the board before a helper goes to sleep: half a millisecond or so
_PATIENCE = 2_000  # looks before the one who waits for a helper lets other processes have the core


def _word(b: Any, board: Any, index: Any) -> Any:
    return b.gep(b.inttoptr(board, _I64.as_pointer()), [index])


@operation(types.int64, types.intp, types.int64)
def look(b: Any, board: Any, index: Any) -> Any:
    """Read a word that others write."""
    return b.load_atomic(_word(b, board, index), "seq_cst", 8)


@operation(types.void, types.intp, types.int64, types.int64)
def post(b: Any, board: Any, index: Any, value: Any) -> None:
    """Write a word that others read."""
    b.store_atomic(value, _word(b, board, index), "seq_cst", 8)


@operation(types.int64, types.intp, types.int64, types.int64)
def add(b: Any, board: Any, index: Any, value: Any) -> Any:
    """Add to a word that others change; returns what it was."""
    return b.atomic_rmw("add", _word(b, board, index), value, "seq_cst")


@operation(types.void)
def pause(b: Any) -> None:
    """Wait a moment in a loop, kindly to the other thread of the core."""
    if on_x86(b):
        kind = ir.FunctionType(ir.VoidType(), [])
        b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.x86.sse2.pause"), [])


@operation(types.void, *[types.intp] * 6)
def call(b: Any, kernel: Any, first: Any, second: Any, third: Any, x: Any, out: Any) -> None:
    """Call a kernel by its address."""
    kind = ir.FunctionType(ir.VoidType(), [_I64] * 5)
    b.call(b.inttoptr(kernel, kind.as_pointer()), [first, second, third, x, out])


_give_way = types.ExternalFunction("sched_yield", types.int32())


@register_jitable(forceinline=True)
def _work(board: int) -> int:
    """Do pieces until there are none left; returns how many it were."""
    done = 0
    while True:
        piece = add(board, NEXT, 1)
        if piece >= look(board, N_PIECES):
            return done
        at = look(board, PIECES) + 8 * PIECE * piece
        out = look(board, OUT) + look(at, 4)
        call(look(at, 0), look(at, 1), look(at, 2), look(at, 3), look(board, X), out)
        done += 1


@register_jitable(forceinline=True)
def _run(board: Any, pieces: Any, x: Any, out: Any) -> None:
    at = board.ctypes.data
    post(at, PIECES, pieces.ctypes.data)
    post(at, N_PIECES, len(pieces))
    post(at, X, x.ctypes.data)
    post(at, OUT, out.ctypes.data)
    post(at, NEXT, 0)
    post(at, OPEN, 1)
    _work(at)
    # Closed before it is asked who is inside: whoever comes in later finds it closed and touches nothing.
    post(at, OPEN, 0)
    looks = 0
    while look(at, INSIDE):
        looks += 1
        if looks > _PATIENCE:
            _give_way()
        pause()


@register_jitable(forceinline=True)
def _serve(board: Any) -> None:
    at = board.ctypes.data
    idle = 0
    while idle < _IDLE and not look(at, STOP):
        done = 0
        if look(at, OPEN) and look(at, NEXT) < look(at, N_PIECES):
            add(at, INSIDE, 1)
            if look(at, OPEN):
                done = _work(at)
            add(at, INSIDE, -1)
        idle = 0 if done else idle + 1
        pause()
    add(at, SERVED, 1)


@functools.cache
def _compiled() -> tuple[Any, Any]:
    """The two entries, for whoever has a product and for helpers."""
    words, table, floats = types.int64[::1], types.int64[:, ::1], types.float32[::1]
    run = njit(types.void(words, table, floats, floats), nogil=True, cache=bool(config.CACHE_DIR))(_run)
    return run, njit(types.void(words), nogil=True, cache=bool(config.CACHE_DIR))(_serve)


class Crew:
    """The thread of control and its helpers.

    Attributes:
        n_threads: all of them, the thread of control included.
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._board = np.zeros(BOARD, np.int64)
        self._sent = 0  # times a helper was sent to look for work
        self._run, self._serve = _compiled()
        self._errands: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._helpers = [
            threading.Thread(target=self._help, name=f"m0-helper-{i}", daemon=True) for i in range(1, n_threads)
        ]
        for helper in self._helpers:
            helper.start()

    def run(self, pieces: NDArray[np.int64], x: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Do all pieces, (n, PIECE): the kernel's address, its first three arguments, its place in ``out`` in bytes."""
        while self._sent - int(self._board[SERVED]) < len(self._helpers):  # some sleep
            self._sent += 1
            self._errands.put(self._look_for_work)
        self._run(self._board, pieces, x, out)

    def share(self, work: Callable[[int], None], n: int) -> None:
        """Call ``work`` with every number below n, on all threads; it must release the GIL to gain by that.

        Raises:
            Exception: the first that ``work`` raised.
        """
        numbers = iter(range(n))
        failures: list[BaseException] = []
        left = threading.Semaphore(0)

        def some() -> None:
            try:
                for i in numbers:
                    work(i)
            except BaseException as error:  # noqa: BLE001 - raised again by the thread of control
                failures.append(error)
            left.release()

        helpers = min(len(self._helpers), n - 1)
        self._board[STOP] = 1  # whoever looks for pieces comes back
        try:
            for _ in range(helpers):
                self._errands.put(some)
            some()
            for _ in range(helpers + 1):
                left.acquire()
        finally:
            self._board[STOP] = 0
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Send the helpers home; safe to call twice."""
        self._board[STOP] = 1
        for _ in self._helpers:
            self._errands.put(None)
        for helper in self._helpers:
            helper.join()
        self._helpers = []

    def _look_for_work(self) -> None:
        self._serve(self._board)

    def _help(self) -> None:
        while (errand := self._errands.get()) is not None:
            errand()
