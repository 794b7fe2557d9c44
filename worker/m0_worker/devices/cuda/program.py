"""The instructions of a decode step and the state of a job, as the kernels see them (kernels/program.cuh)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from m0_worker.devices.cuda.weights import FLOATS, MINIMA

if TYPE_CHECKING:
    from m0_worker.devices.cuda.weights import Matrix, Part

MAX_PARTS = 4
MAX_CHOSEN = 8
N_TABLES = 4
RING = 8


class Op(IntEnum):
    """What an instruction does."""

    EMBED = 0
    MATVEC = 1
    ATTEND = 2
    COMBINE = 3
    EXPERTS_UP = 4
    EXPERTS_DOWN = 5
    NORM = 6
    ADD = 7
    ROPE = 8
    ACT = 9
    CHOOSE = 10
    LAYER_NORM = 11  # no instruction: a bit of `ops`


class Norm(IntEnum):
    """The norm in front of a product."""

    NONE = 0
    RMS = 1
    LAYER = 2


class Act(IntEnum):
    """The activation behind a product."""

    NONE = 0
    SWIGLU = 1
    SWIGLU_OAI = 2
    GELU = 3


# Instruction.flags
FLOAT_X, BLOCK_SUMS, PLANES, PICK, FIRST_PICK, FINAL, JOINED = 1, 2, 4, 8, 16, 32, 64

_PART = np.dtype(
    [
        ("base", "u8"),
        ("expert_bytes", "u8"),
        ("type", "i4"),
        ("groups", "i4"),
        ("rows", "i4"),
        ("row0", "i4"),
    ],
    align=True,
)
_POINTERS = ("x", "x2", "norm_w", "norm_b", "bias", "residual", "out")
INSTRUCTION = np.dtype(
    [
        ("op", "i4"),
        ("k", "i4"),
        ("n_out", "i4"),
        ("n_parts", "i4"),
        ("parts", _PART, (MAX_PARTS,)),
        *((name, "u8") for name in _POINTERS),
        ("eps", "f4"),
        ("norm", "i4"),
        ("act", "i4"),
        ("tiles", "i4"),
        ("share_q", "i4"),
        ("share_r", "i4"),
        ("flags", "i4"),
        ("tile0", "i4"),
        ("n_experts", "i4"),
        ("n_chosen", "i4"),
        ("k_in", "u8"),
        ("v_in", "u8"),
        ("sinks", "u8"),
        ("partial", "u8"),
        ("n_head", "i4"),
        ("n_kv_head", "i4"),
        ("layer", "i4"),
        ("window", "i4"),
        ("table", "i4"),
        ("n_rot", "i4"),
        ("pairing", "i4"),
        ("rotate", "i4"),
        ("scale", "f4"),
        ("max_splits", "i4"),
        ("chosen", "u8"),
    ],
    align=True,
)
RESULT = np.dtype([("token", "i4"), ("drawn", "i4"), ("status", "i4"), ("position", "i4")], align=True)
STATE = np.dtype(
    [
        ("token", "i4"),
        ("position", "i4"),
        ("drawn", "i4"),
        ("status", "i4"),
        ("barrier", "u4"),
        ("done", "u4"),
        ("ticket", "u4"),
        ("stage", "u4"),
        ("cache", "u8"),
        ("value_offset", "u8"),
        ("layer_bytes", "u8"),
        ("capacity", "i4"),
        ("vocab", "i4"),
        ("greedy", "i4"),
        ("pad0", "i4"),
        ("tables", "u8", (N_TABLES,)),
        ("stream", "u8"),
        ("temperature", "f8"),
        ("penalty", "f8"),
        ("top_p", "f8"),
        ("min_p", "f8"),
        ("top_k", "i4"),
        ("n_logits", "i4"),
        ("seen", "u8"),
        ("results", RESULT, (RING,)),
    ],
    align=True,
)


_MAX_RUNS = 8
WARPS = 15  # of a block, that compute
_RUN = 72  # bytes of struct Run
PLAN_BYTES = 16 + _MAX_RUNS * _RUN  # struct Plan
# struct Shared, rounded up: records, barriers, what is kept of rows, sums of squares, the job's state, small things.
SHARED_FIXED = (
    8 * (INSTRUCTION.itemsize + PLAN_BYTES + 8) + WARPS * (16 * 8 + 8 + 24 + 8 + 128) + 2 * 128 * 64 + STATE.itemsize
) // 128 * 128 + 1024
BATCH_GROUPS = 256  # groups of output rows of one instruction in a block
_PART_FLOATS = (BATCH_GROUPS + WARPS * _MAX_RUNS) * 8
_CHUNK_BYTES = 2304  # of a copy into a ring
_RING_MOST = 16384

# Copies of every activation, each read by its own share of the blocks: not all of them ask the same place in L2.
COPIES = 2

# The layout is checked against the kernels' own when they are compiled.
DEFINES = {
    "COPIES": COPIES,
    "INSTRUCTION_BYTES": INSTRUCTION.itemsize,
    "STATE_BYTES": STATE.itemsize,
    "SHARED_FIXED": SHARED_FIXED,
    "PART_FLOATS_HOST": _PART_FLOATS,
    "PLAN_BYTES": PLAN_BYTES,
}


def blocks_of(k: int) -> int:
    """32-blocks of x in shared memory, a multiple of eight."""
    return -(-k // 256) * 8


def vector_bytes(instruction: np.void, head_dim: int, group: int) -> int:
    """Dynamic shared memory that an instruction needs beside the rings; mirrors the layout in kernels/matvec.cuh."""
    copies = int(instruction["n_chosen"]) if instruction["op"] == Op.EXPERTS_DOWN else 1
    blocks = blocks_of(int(instruction["k"])) * copies
    flags = int(instruction["flags"])
    nbytes = 4 * (_PART_FLOATS + blocks + blocks // 4 + 3)
    if flags & PLANES:
        nbytes += blocks * 34 * 4
    if flags & FLOAT_X:
        nbytes += blocks * 32 * 4
    if instruction["op"] == Op.ATTEND:
        chunks = -(-head_dim // 32)
        heads = _heads(head_dim, group)
        work = (WARPS + 1) * heads * 32 * chunks + 2 * WARPS * heads
        nbytes = max(nbytes, 4 * work)
    return SHARED_FIXED + nbytes


def ring_bytes(room: int) -> int:
    """Bytes of each warp's ring, of ``room`` bytes of shared memory that nothing else needs.

    Raises:
        ValueError: there is no room for rings.
    """
    nbytes = min(room // WARPS // 256 * 256, _RING_MOST)
    if nbytes < 2 * _CHUNK_BYTES:
        raise ValueError("the model's rows are too wide for this device's shared memory")
    return nbytes


def batch_tiles(instruction: np.void, grid: int) -> int:
    """Tiles that an instruction may have, so that each block's partial sums fit."""
    paired = int(instruction["act"]) in {Act.SWIGLU, Act.SWIGLU_OAI}
    share = MAX_CHOSEN if instruction["op"] == Op.EXPERTS_DOWN else 2 if paired else 1
    return BATCH_GROUPS // share * grid


def _heads(head_dim: int, group: int) -> int:
    """Query heads that a block attends with at once; mirrors HEADS in attention.cuh."""
    return min(group, max(1, 32 // (-(-head_dim // 32) * 8)))


def subgroups(head_dim: int, group: int) -> int:
    """Blocks that share out one KV head's query heads."""
    return -(-group // _heads(head_dim, group))


def x_flags(*matrices: Matrix) -> int:
    """In which forms products with these matrices want x."""
    kinds = {part.kind for matrix in matrices for part in matrix.parts}
    flags = 0
    if kinds & FLOATS:
        flags |= FLOAT_X
    if kinds - FLOATS:
        flags |= PLANES
    if kinds & MINIMA:
        flags |= BLOCK_SUMS
    return flags


def types(code: np.ndarray[Any, np.dtype[np.void]]) -> int:
    """Bit set of the storage types that a program reads."""
    return sum(1 << kind for kind in {int(part["type"]) for i in code for part in i["parts"][: int(i["n_parts"])]})


def ops(code: np.ndarray[Any, np.dtype[np.void]]) -> int:
    """Bit set of what a program's instructions do: kernels are compiled for that and no more."""
    used = {*code["op"].tolist(), *([Op.LAYER_NORM] if (code["norm"] == Norm.LAYER).any() else [])}
    return sum(1 << int(op) for op in used)


def put_parts(instruction: np.void, matrix: Matrix) -> None:
    """Describe a stored matrix in an instruction."""
    if len(matrix.parts) > MAX_PARTS:
        raise ValueError(f"a matrix of {len(matrix.parts)} parts; {MAX_PARTS} at most")
    row0 = 0
    for slot, part in zip(instruction["parts"], matrix.parts, strict=False):
        slot["base"] = part.buffer.address
        slot["expert_bytes"] = part.expert_bytes
        slot["type"] = part.kind
        slot["groups"] = groups(part)
        slot["rows"] = part.rows
        slot["row0"] = row0
        row0 += part.rows
    instruction["n_parts"] = len(matrix.parts)
    instruction["k"] = matrix.k


def groups(part: Part) -> int:
    """Rows, or groups of eight rows, that blocks share out."""
    return part.rows if part.kind in FLOATS else part.octets


def can_pair(matrix: Matrix) -> bool:
    """Whether gate and up, stacked in this matrix, can be multiplied octet by octet."""
    if len(matrix.parts) == 1:
        return matrix.parts[0].rows % 16 == 0
    return len(matrix.parts) == 2 and matrix.parts[0].rows == matrix.parts[1].rows


def empty(op: Op) -> Any:
    """A blank instruction, an array of one."""
    instruction = np.zeros(1, INSTRUCTION)
    instruction["op"] = op
    return instruction
