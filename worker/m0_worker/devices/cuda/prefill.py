"""Many prompt tokens in one pass: operations run at once, norms and activations fused with the products beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from m0_worker.devices.cuda import driver
from m0_worker.devices.cuda.program import Act, Norm, can_pair
from m0_worker.devices.cuda.rows import ChosenRows, EmbeddedRows, NormedRows, ProductRows, RotatedRows, Rows
from m0_worker.devices.cuda.weights import FLOATS, octet_bytes
from m0_worker.gguf import GgmlType

if TYPE_CHECKING:
    from m0_worker.devices.cuda.arena import Arena
    from m0_worker.devices.cuda.memory import Buffer
    from m0_worker.devices.cuda.rotation import CudaRotation
    from m0_worker.devices.cuda.weights import Matrix, Part
    from m0_worker.devices.interface import Adapter, Tap

_GEMM = np.dtype(
    [
        *((name, "u8") for name in ("base", "base2", "x", "x_scale", "bias", "residual", "out", "counts", "list")),
        ("expert_bytes", "u8"),
        ("expert_bytes2", "u8"),
        *((name, "i4") for name in ("n", "k", "pitch", "rows", "octets", "ldo", "row0", "act")),
        *((name, "i4") for name in ("n_ff", "bias_stride", "per_token", "gathers")),
    ],
    align=True,
)
# Dynamic shared memory by tokens of a block, with what aligning it may cost (WideShared in kernels/wide.cuh).
_WIDE_SHARED = {tokens: tokens * (4 * 256 + 12) + 1024 for tokens in (64, 128)}
_ATTEND = np.dtype(
    [
        *((name, "u8") for name in ("q", "k", "v", "table", "q_half", "pass", "sinks", "out")),
        *((name, "i4") for name in ("ld", "ldk", "ldv", "n", "n_head", "n_kv_head", "layer")),
        *((name, "i4") for name in ("n_rot", "pairing", "window")),
        ("scale", "f4"),
    ],
    align=True,
)
PASS = np.dtype(
    [
        *((name, "u8") for name in ("keys", "values", "layer_bytes")),
        *((name, "i4") for name in ("capacity", "start", "n", "pad")),
    ],
    align=True,
)


class PassDevice(Protocol):
    """What a pass needs of the device that it runs on."""

    stream: Any
    wgmma: bool

    def products(self, kind: GgmlType, tokens: int) -> driver.Kernels:
        """Matrix products of a storage type by tokens of a block."""


class PassModel(Protocol):
    """What a pass needs of the model that it belongs to."""

    model: Adapter
    n_head: int
    passing: Buffer
    prefill_kernels: driver.Kernels

    @property
    def device(self) -> PassDevice:
        """Where it runs."""


class PassDone(Exception):  # noqa: N818 - no error: the rest of the pass is the decode program's head
    """The layers are done and nobody wants the logits of this pass."""


class PrefillStep:
    """The Step of a pass over several tokens."""

    def __init__(self, device: Any, trace: Prefill, n_tokens: int, tap: Tap | None) -> None:
        self.device = device
        self.trace = trace
        self.n_tokens = n_tokens
        self._tap = tap

    def watches(self, name: str) -> bool:
        """See the interface."""
        return self._tap is not None and self._tap.wants(name)

    def tap(self, name: str, layer: int, array: Rows) -> None:
        """See the interface."""
        if self._tap is not None and self._tap.wants(name):
            self._tap(name, layer, self.trace.host(array))


class Prefill:
    """One pass over n rows: tokens, how many and where they are, and where the cache is (PASS), lie in engine memory.

    Rows behind the last token are padding. So the launches of two passes over equally many rows are the same. With
    ``dry`` nothing runs: the pass only counts the memory it needs. ``narrow`` multiplies 64 tokens a block instead of
    128: the same bits, a little sooner if they are few.
    """

    def __init__(
        self,
        engine: PassModel,
        arena: Arena,
        *,
        n: int,
        n_out: int,
        dry: bool = False,
        watched: bool = False,
        narrow: bool = False,
    ) -> None:
        self._engine = engine
        self._stream = engine.device.stream
        self._arena = arena
        self._pass = engine.passing.address
        self._tokens = self._pass + PASS.itemsize  # n int32
        self._n = n
        self._n_out = n_out
        self._dry = dry
        self._narrow = narrow
        self.last = 0  # address of the last token's row behind the last layer
        arena.begin(spills=watched)

    def _rows(self, width: int, n: int | None = None, size: int = 4) -> int:
        return self._arena.take((self._n if n is None else n) * width * size)

    def _launch(self, name: str, grid: tuple[int, ...], block: int, *arguments: Any, shared: int = 0) -> None:
        if not self._dry:
            self._engine.prefill_kernels.launch(name, grid, block, arguments, self._stream, shared=shared)

    # Nodes into memory.

    def force(self, node: Rows) -> int:
        """The address of a node's values, computed now if they waited."""
        if node.address:
            return node.address
        node.address = self._rows(node.width)
        node.ld = node.width
        match node:
            case NormedRows():
                self._prepare(node.x, node, half=0, pitch=0, scales=0, full=node.address, n=self._n)
            case ProductRows():
                self._product(node.x, node.matrix, node.bias, 0, node.address, Act.NONE)
            case RotatedRows():
                self._launch(
                    "rope_rows", (self._n,), 256, np.uint64(self.force(node.x)), np.int32(node.x.ld),
                    np.int32(node.width), np.uint64(node.table.address), np.uint64(self._pass),
                    np.int32(node.table.n_rot), np.int32(node.table.pairing == "neox"), np.uint64(node.address),
                )  # fmt: skip
            case EmbeddedRows():
                self._embed(node)
        return node.address

    def _embed(self, node: EmbeddedRows) -> None:
        part, second = node.table.parts[0], node.positions.parts[0] if node.positions else None
        self._launch(
            "embed_rows", (self._n,), 256, np.uint64(self._tokens), np.int32(part.kind),
            np.uint64(part.buffer.address), np.int32(second.kind if second else 0),
            np.uint64(second.buffer.address if second else 0), np.uint64(self._pass), np.int32(node.width),
            np.uint64(node.address),
        )  # fmt: skip

    def _prepare(
        self, x: int, norm: NormedRows | None, *, half: int, pitch: int, scales: int, full: int, n: int, k: int = 0
    ) -> None:
        self._launch(
            "prepare_rows", (n,), 256, np.uint64(x), np.int32(norm.width if norm else k),
            np.int32(norm.kind if norm else 0), np.uint64(norm.weight if norm else 0),
            np.uint64(norm.bias if norm else 0), np.float32(norm.eps if norm else 0.0), np.uint64(half),
            np.int32(pitch), np.uint64(scales), np.uint64(full), np.int32(self._engine.device.wgmma),
        )  # fmt: skip

    def _halves(self, x: Rows) -> tuple[int, int, int]:
        """FP16 rows for products: address, pitch, scales."""
        pitch = -(-x.width // 128) * 128
        if isinstance(x, NormedRows):
            if not x.half:
                x.half, x.scales = self._rows(pitch, size=2), self._rows(1)
                self._prepare(x.x, x, half=x.half, pitch=pitch, scales=x.scales, full=0, n=self._n)
            return x.half, pitch, x.scales
        half, scales = self._rows(pitch, size=2), self._rows(1)
        self._prepare(self.force(x), None, half=half, pitch=pitch, scales=scales, full=0, n=self._n, k=x.width)
        return half, pitch, scales

    def _product(self, x: Rows, matrix: Matrix, bias: int, residual: int, out: int, act: Act) -> None:
        paired = act in {Act.SWIGLU, Act.SWIGLU_OAI}
        ldo = matrix.rows // 2 if paired else matrix.rows
        row0 = 0
        halves = None
        for part in matrix.parts:
            if part.kind == GgmlType.F32:
                full = self.force(x)
                if not self._dry:
                    self._engine.device.products(part.kind, 64).launch(
                        "gemm_F32", (-(-part.rows // 4), -(-self._n // 4)), 128,
                        (np.uint64(part.buffer.address), np.uint64(full), np.uint64(bias), np.uint64(residual),
                         np.uint64(out), np.int32(self._n), np.int32(matrix.k), np.int32(part.rows), np.int32(ldo),
                         np.int32(row0), np.int32(act)), self._stream,
                    )  # fmt: skip
            else:
                halves = halves or self._halves(x)
                args = np.zeros(1, _GEMM)
                args["base"], args["x"], args["pitch"], args["x_scale"] = part.buffer.address, *halves
                args["bias"], args["residual"], args["out"], args["act"] = bias, residual, out, act
                args["n"], args["k"], args["rows"], args["octets"] = self._n, matrix.k, part.rows, part.octets
                args["ldo"], args["row0"] = ldo, row0
                args["per_token"] = 1
                if paired:
                    self._pair(args, matrix)
                self._gemm(part, args, self._n, 1)
                if paired:
                    return
            row0 += part.rows

    @staticmethod
    def _pair(args: Any, matrix: Matrix) -> None:
        """Gate and up: two parts, or the halves of one."""
        part = matrix.parts[0]
        one = len(matrix.parts) == 1
        n_ff = part.rows // 2 if one else part.rows
        if one:
            rows = n_ff * matrix.k * part.kind.block_bytes
            skip = rows if part.kind in FLOATS else n_ff // 8 * octet_bytes(part.kind, matrix.k)
            args["base2"], args["expert_bytes2"] = part.buffer.address + skip, part.expert_bytes
        else:
            args["base2"], args["expert_bytes2"] = matrix.parts[1].buffer.address, matrix.parts[1].expert_bytes
        args["n_ff"] = n_ff
        args["rows"] = n_ff

    def _gemm(self, part: Part, args: Any, n: int, experts: int) -> None:
        if self._dry:
            return
        device = self._engine.device
        # An expert has few tokens. Both blocks add up the same numbers in the same order.
        tokens = 64 if experts > 1 or self._narrow or not device.wgmma else 128
        octets = int(args["n_ff"][0]) // 8 if int(args["base2"][0]) else int(args["octets"][0])
        grid = (-(-octets // (8 if int(args["base2"][0]) else 16)), -(-n // tokens), experts)
        threads, shared = (256, _WIDE_SHARED[tokens]) if device.wgmma else (128, 0)
        device.products(part.kind, tokens).launch("gemm", grid, threads, (args,), self._stream, shared=shared)

    def host(self, node: Rows) -> np.ndarray[Any, np.dtype[Any]]:
        """A copy of a node's values, (n, width)."""
        if isinstance(node, ChosenRows):
            values = np.empty((self._n, node.width), np.int32 if node.integers else np.float32)
            driver.download(values, node.ids if node.integers else node.weights, self._stream)
            self._stream.synchronize()
            return values
        address = self.force(node)
        ld = node.ld or node.width
        rows = np.zeros((self._n, ld), np.float32)
        if self._n:  # columns of a wider array: the last row ends early
            driver.download(rows.reshape(-1)[: (self._n - 1) * ld + node.width], address, self._stream)
            self._stream.synchronize()
        return np.ascontiguousarray(rows[:, : node.width])

    # Operations.

    def embed(self, table: Matrix) -> Rows:
        """Embedding rows of the tokens."""
        return EmbeddedRows(self, table.k, table=table)

    def embed_positions(self, table: Matrix) -> Rows:
        """Embedding rows of the positions, to be added to the tokens'."""
        return EmbeddedRows(self, table.k, table=table)

    def add(self, x: Rows, y: Rows) -> Rows:
        """X + y."""
        if isinstance(x, EmbeddedRows) and isinstance(y, EmbeddedRows) and not y.address:
            return EmbeddedRows(self, x.width, table=x.table, positions=y.table)
        a, b, out = self.force(x), self.force(y), self._rows(x.width)
        self._launch("add_rows", (self._n,), 256, np.uint64(a), np.uint64(b), np.uint64(out), np.int32(x.width))
        return Rows(self, x.width, out, x.width)

    def norm(self, x: Rows, kind: Norm, weight: int, bias: int, eps: float) -> Rows:
        """A norm, fused with the conversion for the product behind it."""
        return NormedRows(self, x.width, x=self.force(x), kind=kind, weight=weight, bias=bias, eps=eps)

    def linear(self, x: Rows, matrix: Matrix, bias: int, residual: Rows | None) -> Rows:
        """A product; waits for an activation unless it has a residual."""
        if residual is None:
            return ProductRows(self, matrix.rows, x=x, matrix=matrix, bias=bias)
        add = self.force(residual)
        out = self._rows(matrix.rows)
        self._product(x, matrix, bias, add, out, Act.NONE)
        return Rows(self, matrix.rows, out, matrix.rows)

    def split(self, x: Rows, sizes: tuple[int, ...]) -> tuple[Rows, ...]:
        """Columns of x."""
        address = self.force(x)
        views, at = [], 0
        for size in sizes:
            views.append(Rows(self, size, address + 4 * at, x.ld or x.width))
            at += size
        return tuple(views)

    def activate(self, x: Rows, act: Act) -> Rows:
        """An activation, fused into the product before it if that still waits."""
        width = x.width if act == Act.GELU else x.width // 2
        if isinstance(x, ProductRows) and not x.address:
            kinds = {part.kind for part in x.matrix.parts}
            alike = GgmlType.F32 not in kinds and len(kinds) == 1 and can_pair(x.matrix) and width % 8 == 0
            if act == Act.GELU or alike:
                out = self._rows(width)
                self._product(x.x, x.matrix, x.bias, 0, out, act)
                return Rows(self, width, out, width)
        address = self.force(x)
        out = self._rows(width)
        self._launch("act_rows", (self._n,), 256, np.uint64(address), np.int32(width), np.int32(act), np.uint64(out))
        return Rows(self, width, out, width)

    def rope(self, x: Rows, table: CudaRotation) -> Rows:
        """A rotation, fused into attention's preparation."""
        self.force(x)
        return RotatedRows(self, x.width, x=x, table=table)

    def attend(self, q: Rows, k: Rows, v: Rows, layer: int, *, scale: float, window: int | None, sinks: int) -> Rows:
        """Rotation and cache write, then causal attention."""
        table = None
        if isinstance(q, RotatedRows) and isinstance(k, RotatedRows) and not q.address and not k.address:
            table = q.table
            q, k = q.x, k.x
        shape, n_head = self._engine.model.cache, self._engine.n_head
        args = np.zeros(1, _ATTEND)
        args["q"], args["k"], args["v"] = self.force(q), self.force(k), self.force(v)
        args["ld"], args["ldk"], args["ldv"] = q.ld or q.width, k.ld or k.width, v.ld or v.width
        args["n"], args["n_head"], args["n_kv_head"] = self._n, n_head, shape.n_kv_head
        args["q_half"] = self._rows(q.width, size=2)
        out = self._rows(q.width)
        args["out"], args["scale"], args["window"], args["sinks"] = out, scale, window or 0, sinks
        args["pass"], args["layer"] = self._pass, layer
        if table is not None:
            args["table"], args["n_rot"], args["pairing"] = table.address, table.n_rot, table.pairing == "neox"
        self._launch("rotate_rows", (self._n,), 256, args)
        shared = 2 * 64 * (shape.head_dim + 8) * 2
        self._launch("attend_rows", (-(-self._n // 64), n_head), 128, args, shared=shared)
        return Rows(self, q.width, out, q.width)

    def top_experts(self, logits: Rows, k: int) -> tuple[Rows, Rows]:
        """The router's choice."""
        address = self.force(logits)
        ids, weights = self._rows(k), self._rows(k)
        self._launch(
            "route_rows", (self._n,), 32, np.uint64(address), np.int32(logits.width), np.int32(k), np.uint64(ids),
            np.uint64(weights),
        )  # fmt: skip
        n = logits.width
        return (
            ChosenRows(self, k, ids, k, n_experts=n, ids=ids, weights=weights, integers=True),
            ChosenRows(self, k, weights, k, n_experts=n, ids=ids, weights=weights),
        )

    def experts(
        self,
        x: Rows,
        chosen: Rows,
        gate_up: Matrix,
        gate_up_bias: int,
        down: Matrix,
        down_bias: int,
        residual: Rows | None,
    ) -> Rows:
        """Every expert over the tokens that chose it; then the weighted sums."""
        if not isinstance(chosen, ChosenRows):
            raise TypeError("experts() wants what top_experts() returned")
        k, n_experts, pairs = chosen.width, chosen.n_experts, self._n * chosen.width
        counts, listed = self._rows(2 * n_experts, 1), self._rows(1, pairs)
        self._launch(
            "list_pairs", (1,), 1024, np.uint64(chosen.ids), np.int32(pairs), np.int32(n_experts), np.uint64(counts),
            np.uint64(listed),
        )  # fmt: skip
        n_ff = down.k
        hidden = self._rows(n_ff, pairs)
        args = np.zeros(1, _GEMM)
        part = gate_up.parts[0]
        args["base"], args["expert_bytes"] = part.buffer.address, part.expert_bytes
        args["x"], args["pitch"], args["x_scale"] = self._halves(x)
        args["bias"], args["bias_stride"], args["act"] = gate_up_bias, 2 * n_ff, Act.SWIGLU_OAI
        args["out"], args["ldo"], args["k"] = hidden, n_ff, gate_up.k
        args["counts"], args["list"], args["per_token"], args["gathers"] = counts, listed, k, 1
        args["octets"] = part.octets
        self._pair(args, gate_up)
        self._gemm(part, args, self._n, n_experts)
        pitch = -(-n_ff // 128) * 128
        half, scales = self._rows(pitch, pairs, 2), self._rows(1, pairs)
        self._prepare(hidden, None, half=half, pitch=pitch, scales=scales, full=0, n=pairs, k=n_ff)
        args = np.zeros(1, _GEMM)
        part = down.parts[0]
        y = self._rows(down.rows, pairs)
        args["base"], args["expert_bytes"] = part.buffer.address, part.expert_bytes
        args["x"], args["pitch"], args["x_scale"] = half, pitch, scales
        args["bias"], args["bias_stride"], args["out"], args["ldo"] = down_bias, down.rows, y, down.rows
        args["rows"], args["octets"], args["k"] = part.rows, part.octets, down.k
        args["counts"], args["list"], args["per_token"] = counts, listed, 1
        self._gemm(part, args, self._n, n_experts)
        add = self.force(residual) if residual is not None else 0
        out = self._rows(down.rows)
        self._launch(
            "mix_rows", (self._n,), 256, np.uint64(y), np.uint64(chosen.weights), np.int32(k), np.uint64(add),
            np.uint64(out), np.int32(down.rows),
        )  # fmt: skip
        return Rows(self, down.rows, out, down.rows)

    def last_rows(self, x: Rows) -> Rows:
        """The rows whose logits are wanted here; the last one is also where the decode program's head starts."""
        address = self.force(x)
        self.last = address + 4 * (self._n - 1) * x.width
        if self._n_out == 0:
            raise PassDone
        skip = self._n - self._n_out
        self._n = self._n_out
        return Rows(self, x.width, address + 4 * skip * x.width, x.width)
