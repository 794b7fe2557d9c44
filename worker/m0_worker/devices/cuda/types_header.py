"""The table of storage types as the kernels read it: the one included file that is written by code."""

from __future__ import annotations

from m0_worker.gguf import GgmlType

TYPES_HEADER = "types.cuh"


def types_header() -> str:
    """Storage types, numbered as in GGUF, and for each that is quantized how its blocks lie on the device.

    A unit is what a warp multiplies at once: 128 weights of a row, or a block that is longer; of eight rows.
    """
    quantized = [kind for kind in GgmlType if not kind.is_float]
    units = {kind: max(128, kind.block_size) for kind in quantized}
    long = sum(1 << kind for kind, k in units.items() if k == 256)
    lines = [
        "// From the worker's table of storage types.",
        f"enum Type {{ {', '.join(f'{kind.name} = {kind.value}' for kind in GgmlType)} }};",
        "template <int TYPE> struct Stored;",
    ]
    for kind, k in units.items():
        facts = f"K = {k}, BYTES = {8 * kind.nbytes(k)}, DISTANCE = {k // 64}"
        lines.append(f"template <> struct Stored<{kind.name}> {{ enum {{ {facts} }}; }};")
    lines += [
        f"#define LONG_UNITS 0x{long:x}ull     // bit t: units of type t have 256 weights",
        f"#define EACH_QUANTIZED(DO) {' '.join(f'DO({kind.name})' for kind in quantized)}",
    ]
    return "\n".join(lines) + "\n"
