"""A one-token forward pass written down as instructions, with neighbours fused where nobody watches between them.

Operations return nodes. A node that could disappear into its consumer (a norm into the product behind it, a product
into the activation behind it, a rotation into attention) waits; every other node has its memory at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from m0_worker.devices.cuda.program import (
    FINAL,
    FIRST_PICK,
    FLOAT_X,
    INSTRUCTION,
    JOINED,
    PICK,
    Act,
    Norm,
    Op,
    batch_tiles,
    can_pair,
    empty,
    groups,
    put_parts,
    subgroups,
    x_flags,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from m0_worker.devices.cuda.rotation import CudaRotation
    from m0_worker.devices.cuda.weights import Matrix
    from m0_worker.devices.interface import CacheShape


_SPLITS = ("partial", "max_splits", "window", "sinks", "n_head")


@dataclass(eq=False, slots=True)
class Node:
    """A row of activations, (1, width); ``address`` is 0 as long as it waits for its consumer."""

    trace: Recorder
    width: int
    address: int = 0


@dataclass(eq=False, slots=True, kw_only=True)
class Embedded(Node):
    """Embedding rows that wait for the positions' rows."""

    instruction: Any


@dataclass(eq=False, slots=True)
class Normed(Node):
    """A norm that waits for its product."""

    x: int = 0
    kind: Norm = Norm.NONE
    weight: int = 0
    bias: int = 0
    eps: float = 0.0


@dataclass(eq=False, slots=True, kw_only=True)
class Product(Node):
    """A product that waits for its activation."""

    instruction: Any
    matrix: Matrix
    pieces: list[Any] = field(default_factory=list)


@dataclass(eq=False, slots=True, kw_only=True)
class View(Node):
    """Columns of another node."""

    parent: Node
    offset: int


@dataclass(eq=False, slots=True, kw_only=True)
class Rotated(Node):
    """A rotation that waits for attention."""

    x: Node
    table: CudaRotation


@dataclass(eq=False, slots=True, kw_only=True)
class Attended(Node):
    """Attention's output, which the product behind it joins from its splits."""

    instruction: Any


@dataclass(eq=False, slots=True, kw_only=True)
class Chosen(Node):
    """The router's choice: ids or weights."""

    logits: Node
    n_experts: int
    k: int
    weights: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """After ``after`` instructions, show ``width`` values at ``address`` as checkpoint ``name`` of ``layer``."""

    after: int
    name: str
    layer: int
    address: int
    width: int
    integers: bool


@dataclass
class Recorder:
    """Collects one forward pass.

    Attributes:
        allocate: device memory for so many bytes, living as long as the program.
        vector: address of a parameter vector.
        instructions: what was recorded.
        marks: checkpoints to show.
        head: index of the first instruction behind ``last_rows``.
    """

    allocate: Callable[[int], int]
    cache: CacheShape
    n_head: int
    grid: int
    instructions: list[Any] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    head: int | None = None

    def _buffer(self, width: int) -> int:
        return self.allocate(4 * width)

    def _emit(self, instruction: Any) -> list[Any]:
        """Append an instruction, cut in pieces whose partial sums fit in a block's memory."""
        tiles, most = int(instruction["tiles"][0]), batch_tiles(instruction[0], self.grid)
        if tiles > most and instruction["op"] != Op.MATVEC:
            raise ValueError(f"experts of {tiles} groups of rows are too many for {self.grid} multiprocessors")
        pieces = []
        for first in range(0, max(tiles, 1), most):
            piece = instruction.copy()
            piece["tile0"], piece["tiles"] = first, min(tiles - first, most)
            pieces.append(piece)
        self.instructions.extend(pieces)
        return pieces

    # Nodes into memory.

    def force(self, node: Node) -> int:
        """The address of a node's values; emits what they wait for."""
        if node.address:
            return node.address
        match node:
            case View():
                return self.force(node.parent) + 4 * node.offset
            case Embedded():
                node.address = self._buffer(node.width)
                node.instruction["out"] = node.address
                self._emit(node.instruction)
            case Product():
                node.address = self._buffer(node.width)
                node.instruction["out"] = node.address
                node.pieces = self._emit(node.instruction)
            case Normed():
                instruction = empty(Op.NORM)
                node.address = self._buffer(node.width)
                instruction["k"], instruction["out"], instruction["flags"] = node.width, node.address, FLOAT_X
                self._put_input(instruction, node, fuse=True)
                self._emit(instruction)
            case Rotated():
                instruction = empty(Op.ROPE)
                instruction["x"] = self.force(node.x)
                node.address = self._buffer(node.width)
                instruction["k"], instruction["out"] = node.width, node.address
                self._put_rotation(instruction, node.table)
                self._emit(instruction)
            case Attended():
                node.address = int(node.instruction["out"][0])
                combine = node.instruction.copy()
                combine["op"] = Op.COMBINE
                self._emit(combine)
            case Chosen():
                self._choose(node)
        return node.address

    def _choose(self, node: Chosen) -> None:
        instruction = empty(Op.CHOOSE)
        instruction["x2"] = self.force(node.logits)
        instruction["n_experts"], instruction["n_chosen"] = node.n_experts, node.k
        ids, weights = self._buffer(node.k), self._buffer(node.k)
        instruction["chosen"], instruction["out"] = ids, weights
        node.address = weights if node.weights else ids
        self._emit(instruction)

    def _put_input(self, instruction: Any, x: Node, *, fuse: bool = False) -> None:
        if isinstance(x, Normed) and (fuse or not x.address):
            instruction["x"], instruction["norm"], instruction["eps"] = x.x, x.kind, x.eps
            instruction["norm_w"], instruction["norm_b"] = x.weight, x.bias
        else:
            instruction["x"] = self.force(x)

    @staticmethod
    def _put_rotation(instruction: Any, table: CudaRotation) -> None:
        instruction["rotate"], instruction["table"] = 1, table.slot
        instruction["n_rot"], instruction["pairing"] = table.n_rot, table.pairing == "neox"

    # Operations.

    def embed(self, table: Matrix) -> Node:
        """The token's embedding row."""
        instruction = empty(Op.EMBED)
        put_parts(instruction[0], table)
        return Embedded(self, table.k, instruction=instruction)

    def embed_positions(self, table: Matrix) -> Node:
        """The position's embedding row, to be added to the token's."""
        instruction = empty(Op.EMBED)
        put_parts(instruction[0], table)
        return Embedded(self, table.k, instruction=instruction)

    def add(self, x: Node, y: Node) -> Node:
        """X + y."""
        if isinstance(x, Embedded) and isinstance(y, Embedded) and not y.address:
            # The positions' rows join the token's: in the same instruction, or in a second one if somebody watched.
            both = x.instruction.copy()
            both["parts"][0][1] = y.instruction["parts"][0][0]
            both["n_parts"] = 2
            return Embedded(self, x.width, instruction=both)
        instruction = empty(Op.ADD)
        instruction["x"], instruction["x2"], instruction["k"] = self.force(x), self.force(y), x.width
        out = self._buffer(x.width)
        instruction["out"] = out
        self._emit(instruction)
        return Node(self, x.width, out)

    def norm(self, x: Node, kind: Norm, weight: int, bias: int, eps: float) -> Node:
        """A norm, to be fused into the product behind it."""
        return Normed(self, x.width, x=self.force(x), kind=kind, weight=weight, bias=bias, eps=eps)

    def linear(self, x: Node, matrix: Matrix, bias: int, residual: Node | None) -> Node:
        """A product; waits for an activation unless it has a residual."""
        instruction = empty(Op.MATVEC)
        put_parts(instruction[0], matrix)
        instruction["flags"] = x_flags(matrix)
        if isinstance(x, Attended) and not x.address:
            for name in _SPLITS:
                instruction[name] = x.instruction[name]
            instruction["x"] = x.instruction["out"]
            instruction["flags"] |= JOINED
        else:
            self._put_input(instruction, x)
        instruction["tiles"] = sum(groups(part) for part in matrix.parts)
        instruction["bias"] = bias
        node = Product(self, matrix.rows, instruction=instruction, matrix=matrix)
        if residual is not None:
            instruction["residual"] = self.force(residual)
            self.force(node)
        return node

    def split(self, x: Node, sizes: tuple[int, ...]) -> tuple[Node, ...]:
        """Columns of x."""
        views, at = [], 0
        for size in sizes:
            views.append(View(self, size, parent=x, offset=at))
            at += size
        return tuple(views)

    def activate(self, x: Node, act: Act) -> Node:
        """An activation, fused into the product before it if that still waits."""
        width = x.width if act == Act.GELU else x.width // 2
        if isinstance(x, Product) and not x.address and (act == Act.GELU or can_pair(x.matrix)):
            instruction = x.instruction
            instruction["act"] = act
            if act != Act.GELU:
                tiles = groups(x.matrix.parts[0])
                instruction["tiles"] = tiles // 2 if len(x.matrix.parts) == 1 else tiles
            address = self._buffer(width)
            instruction["out"] = address
            self._emit(instruction)
            return Node(self, width, address)
        instruction = empty(Op.ACT)
        instruction["x"], instruction["act"], instruction["n_out"] = self.force(x), act, width
        address = self._buffer(width)
        instruction["out"] = address
        self._emit(instruction)
        return Node(self, width, address)

    def rope(self, x: Node, table: CudaRotation) -> Node:
        """A rotation, to be fused into attention."""
        self.force(x)
        return Rotated(self, x.width, x=x, table=table)

    def attend(self, q: Node, k: Node, v: Node, layer: int, *, scale: float, window: int | None, sinks: int) -> Node:
        """Cache write and attention, in two instructions of which short contexts skip the second."""
        instruction = empty(Op.ATTEND)
        if isinstance(q, Rotated) and isinstance(k, Rotated) and not q.address and not k.address:
            self._put_rotation(instruction, q.table)
            q, k = q.x, k.x
        instruction["x"], instruction["k_in"], instruction["v_in"] = self.force(q), self.force(k), self.force(v)
        shape = self.cache
        instruction["n_head"], instruction["n_kv_head"], instruction["layer"] = self.n_head, shape.n_kv_head, layer
        instruction["window"], instruction["sinks"], instruction["scale"] = window or 0, sinks, scale
        blocks = shape.n_kv_head * subgroups(shape.head_dim, self.n_head // shape.n_kv_head)
        instruction["max_splits"] = max(1, self.grid // blocks)
        splits = self.n_head * int(instruction["max_splits"][0])
        instruction["partial"] = self._buffer(splits * (shape.head_dim + 2))
        out = self._buffer(self.n_head * shape.head_dim)
        instruction["out"] = out
        self._emit(instruction)
        return Attended(self, self.n_head * shape.head_dim, instruction=instruction)

    def top_experts(self, logits: Node, k: int) -> tuple[Node, Node]:
        """The router's choice; experts() repeats it, so nothing is emitted unless somebody watches."""
        self.force(logits)
        return (
            Chosen(self, k, logits=logits, n_experts=logits.width, k=k),
            Chosen(self, k, logits=logits, n_experts=logits.width, k=k, weights=True),
        )

    def experts(
        self,
        x: Node,
        chosen: Node,
        gate_up: Matrix,
        gate_up_bias: int,
        down: Matrix,
        down_bias: int,
        residual: Node | None,
    ) -> Node:
        """The chosen experts' gate and up with their activation, then their weighted sum."""
        if not isinstance(chosen, Chosen):
            raise TypeError("experts() wants what top_experts() returned")
        if not can_pair(gate_up):
            raise ValueError("experts' gate and up must have equally many rows")
        logits = self.force(chosen.logits)
        up = empty(Op.EXPERTS_UP)
        put_parts(up[0], gate_up)
        self._put_input(up, x)
        n_ff = down.k
        hidden = self._buffer(n_ff * chosen.k)
        half = groups(gate_up.parts[0]) // (2 if len(gate_up.parts) == 1 else 1)
        up["tiles"] = half * chosen.k
        up["x2"], up["n_experts"], up["n_chosen"] = logits, chosen.n_experts, chosen.k
        up["bias"], up["out"], up["act"], up["flags"] = gate_up_bias, hidden, Act.SWIGLU_OAI, x_flags(gate_up)
        self._emit(up)
        instruction = empty(Op.EXPERTS_DOWN)
        put_parts(instruction[0], down)
        instruction["x"], instruction["x2"] = hidden, logits
        instruction["n_experts"], instruction["n_chosen"] = chosen.n_experts, chosen.k
        instruction["bias"], instruction["flags"] = down_bias, x_flags(down)
        instruction["tiles"] = groups(down.parts[0])
        if residual is not None:
            instruction["residual"] = self.force(residual)
        out = self._buffer(down.rows)
        instruction["out"] = out
        self._emit(instruction)
        return Node(self, down.rows, out)

    def last_rows(self, x: Node) -> Node:
        """The only row; what follows is the head, which prompt tokens skip."""
        self.force(x)
        self.head = len(self.instructions)
        return x

    def mark(self, name: str, layer: int, node: Node) -> None:
        """Show a node's values as a checkpoint."""
        address = self.force(node)
        integers = isinstance(node, Chosen) and not node.weights
        self.marks.append(Mark(len(self.instructions), name, layer, address, node.width, integers))

    def finish(self, logits: Node) -> tuple[np.ndarray[Any, np.dtype[np.void]], int]:
        """All instructions and the address of the logits.

        Raises:
            TypeError: logits that are no product's output.
        """
        address = self.force(logits)
        if not isinstance(logits, Product) or not logits.pieces:
            raise TypeError("logits must be what linear() returned")
        for piece in logits.pieces:
            piece["flags"] |= FINAL | FIRST_PICK
        logits.pieces[-1]["flags"] |= PICK
        program = np.concatenate(self.instructions).astype(INSTRUCTION)
        tiles = program["tiles"]
        program["share_q"], program["share_r"] = tiles // self.grid, tiles % self.grid
        return program, address
