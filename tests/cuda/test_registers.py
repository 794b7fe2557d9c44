"""Every storage type compiles, and ptxas keeps the decode step in registers.

What it spills, each layer loads through the little L1 that rings leave.

Needs NVRTC and no device.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

import pytest
from m0_worker.gguf import GgmlType


class Shape(NamedTuple):
    """What the step is compiled for, and the bytes of registers that its functions may spill."""

    head_dim: int
    group: int
    types: tuple[str, ...]
    ring_bytes: int
    spilled: int
    ops: tuple[str, ...] = ("EMBED", "MATVEC", "ATTEND")


SHAPES = {
    "qwen2.5-0.5b": Shape(64, 7, ("Q4_K", "Q5_0", "Q6_K", "Q8_0"), 11264, 0),
    "low-bits": Shape(64, 7, ("Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "Q6_K"), 11264, 0),
    # Saved once an instruction, not once a unit or a token; both were measured so (docs/evidence/cuda-engine.md).
    "gpt-oss-20b": Shape(
        64, 8, ("MXFP4", "Q8_0", "BF16"), 9216, 12, ("EMBED", "MATVEC", "ATTEND", "EXPERTS_UP", "EXPERTS_DOWN")
    ),
    "phi-3-mini": Shape(96, 1, ("Q4_K", "Q6_K"), 9216, 48),
}


def spills(log: str) -> dict[str, int]:
    """Bytes that each function stores to local memory, from ptxas's words."""
    found: dict[str, int] = {}
    for name, numbers in pairwise(log.splitlines()):
        function = re.search(r"Function properties for (\w+)", name)
        stored = re.search(r"(\d+) bytes spill stores", numbers)
        if function and stored:
            found[function[1]] = int(stored[1])
    return found


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_decode_step_does_not_spill(name: str) -> None:
    from cupy_backends.cuda.libs import nvrtc  # noqa: PLC0415 - with CuPy only
    from m0_worker.devices.cuda import driver  # noqa: PLC0415 - the same
    from m0_worker.devices.cuda.program import DEFINES, Op  # noqa: PLC0415 - the same

    shape = SHAPES[name]
    defines = {
        **DEFINES,
        "HEAD_DIM": shape.head_dim,
        "GROUP": shape.group,
        "KV_F32": 0,
        "TYPES": sum(1 << GgmlType[kind] for kind in shape.types),
        "RING_BYTES": shape.ring_bytes,
        "OPS": sum(1 << Op[op] for op in shape.ops),
    }
    program = nvrtc.createProgram(driver.source("decode.cu"), "decode.cu", [], [])
    try:
        nvrtc.compileProgram(program, (*driver.options(defines), "-arch=sm_90", "--ptxas-options=-v"))
        found = spills(nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)
    assert {"decode", "plan_program"} <= set(found), "ptxas says it in other words"
    assert max(found.values()) <= shape.spilled, {k: v for k, v in found.items() if v}


@pytest.mark.parametrize("hopper", [False, True])
@pytest.mark.parametrize("kind", GgmlType)
def test_prompt_products_of_every_type_compile(kind: GgmlType, hopper: bool) -> None:
    from cupy_backends.cuda.libs import nvrtc  # noqa: PLC0415 - with CuPy only
    from m0_worker.devices.cuda import driver  # noqa: PLC0415 - the same

    defines = {"STORED": int(kind), "TOKENS": 64, "HOPPER": int(hopper)}
    program = nvrtc.createProgram(driver.source("gemm.cu"), "gemm.cu", [], [])
    try:
        nvrtc.compileProgram(program, (*driver.options(defines), f"-arch=sm_90{'a' * hopper}"))
        assert nvrtc.getCUBIN(program)
    finally:
        nvrtc.destroyProgram(program)


def test_the_kernels_table_of_types_is_the_workers() -> None:
    from m0_worker.devices.cuda import weights  # noqa: PLC0415 - with CuPy only
    from m0_worker.devices.cuda.types_header import types_header  # noqa: PLC0415 - the same

    header = types_header()
    for kind in GgmlType:
        assert f" {kind.name} = {kind.value}" in header
        if not kind.is_float:
            k = weights.unit(kind)
            assert f"Stored<{kind.name}> {{ enum {{ K = {k}, BYTES = {weights.octet_bytes(kind, k)}," in header
            assert f"DO({kind.name})" in header
