"""Types of values: one rule a node type, from the types of its inputs to those of its outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stas_neuro.ir.fixed import PIXEL_LIMIT, FixedInput, FixedIntegrate, op_of
from stas_neuro.ir.nodes import (
    LIF,
    Add,
    BatchNorm,
    Conv2d,
    Gate,
    HaltAccumulate,
    HaltingScore,
    Input,
    Integrate,
    Linear,
    MaskedColumnSum,
    Node,
    Output,
    Readout,
    SpikeMatMul,
    SpikeMaxPool,
    Tokens,
)
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.types import EVENTS, VALUES, Kind, Shape, ValueType

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph

VALUES_LIMIT = 1 << 25
"""Of a value's entries: 96 channels of 512 x 512 pixels have 2^24.6, and no image or map is larger."""
_SPIKES = frozenset({Kind.SPIKE})
_MAP, _TOKENS, _TOKENS_OR_VECTOR = (3,), (2,), (1, 2)
_SHAPES = {1: "(D,)", 2: "(N, D)", 3: "(C, H, W)"}


class _Untypable(Exception):
    """An input has no type, or none that the rule could go on with; the problem is noted already."""


@dataclass(frozen=True)
class _Site:
    """A node while its outputs are typed."""

    node: Node
    graph: Graph
    inputs: Mapping[str, ValueType]
    problems: Problems

    def take(
        self, port: str, kinds: Collection[Kind] = VALUES, ranks: tuple[int, ...] = (1, 2, 3)
    ) -> ValueType:
        """Return the type at an input port, which must be of one of `kinds` and `ranks`."""
        if port not in self.inputs:
            raise _Untypable
        value = self.inputs[port]
        if value.kind not in kinds:
            words = " or ".join(sorted(kinds))
            self.refuse(port, f"is {value}", f"{type(self.node).__name__} takes {words} here")
        if len(value.shape) not in ranks:
            shapes = " or ".join(_SHAPES[rank] for rank in ranks)
            self.refuse(port, f"has shape {value.shape}", f"{type(self.node).__name__} takes {shapes} here")
            raise _Untypable
        return value

    def refuse(self, port: str, what: str, remedy: str) -> None:
        self.problems.add(f"{self.node.name}:{port}", what, remedy)

    def require(self, port: str, what: str, actual: int | Shape, wanted: int | Shape, limit: str) -> None:
        """Note a problem unless a size is what the node needs."""
        if actual != wanted:
            self.refuse(port, f"{what} is {actual}, {limit} is {wanted}", "make them equal")

    def made(self, kind: Kind, shape: Shape, bound: int | None = None) -> ValueType:
        if math.prod(shape) > VALUES_LIMIT:
            what = f"its output of shape {shape} has {math.prod(shape)} values"
            self.problems.add(self.node.name, what, f"a value has at most {VALUES_LIMIT}: use smaller images")
            raise _Untypable
        return ValueType(kind, shape, self.node.phase, bound)


_Rule = Callable[[Any, _Site], dict[str, ValueType]]


def infer_types(graph: Graph, problems: Problems) -> dict[tuple[str, str], ValueType]:
    """Type every output port; add a problem for each value that a node cannot take."""
    types: dict[tuple[str, str], ValueType] = {}
    for node in graph.nodes:
        edges = graph.inputs(node).items()
        # Delayed values are typed by their source, later in the order: only alive and total ports take
        # them, and no output type hangs on those.
        inputs = {
            port: types[edge.src, edge.src_port]
            for port, edge in edges
            if not edge.delay and (edge.src, edge.src_port) in types
        }
        try:
            outputs = _RULES[op_of(node)](node, _Site(node, graph, inputs, problems))
        except _Untypable:
            continue
        types.update({(node.name, port): value for port, value in outputs.items()})
    _check_gates(graph, types, problems)
    return types


def _check_gates(graph: Graph, types: Mapping[tuple[str, str], ValueType], problems: Problems) -> None:
    """Check the ports that take a token mask or a halting sum; no other port takes a delayed edge."""
    for edge in graph.edges:
        node, value = graph.node(edge.dst), types.get((edge.src, edge.src_port))
        companion = gated_port(node, edge.dst_port)
        if companion is None:
            if edge.delay:
                problems.add(str(edge), "is delayed", "only alive, total and token masks may be")
            continue
        kind = Kind.MEMBRANE if edge.dst_port == "total" else Kind.MASK
        if value is not None and value.kind != kind:
            problems.add(f"{edge.dst}:{edge.dst_port}", f"is {value}", f"connect a {kind} of HaltAccumulate")
        along = graph.inputs(node).get(companion)
        gated = types.get((along.src, along.src_port)) if along else None
        if value is not None and gated is not None:
            rank = 1 if isinstance(node, HaltAccumulate) else 2
            # The total of late decisions has a row for each score, which their accumulator has typed.
            shape = value.shape[-1:] if edge.dst_port == "total" else value.shape
            if len(gated.shape) != rank or shape != gated.shape[:1]:
                what = f"has shape {value.shape} beside {companion} {gated.shape}"
                problems.add(f"{edge.dst}:{edge.dst_port}", what, "connect one value a token of (N, D)")


def gated_port(node: Node, port: str) -> str | None:
    """Return the input port whose tokens `port` masks, None if `port` takes no mask."""
    if isinstance(node, Readout):
        return port.replace("alive", "z") if port.startswith("alive") else None
    if isinstance(node, HaltAccumulate):
        return "score" if port in ("alive", "total") else None
    if isinstance(node, Gate):
        return "x" if port == "mask" and node.axis == "token" else None
    return "x" if port == "alive" else None


def _product(*bounds: int | None) -> int | None:
    result = 1
    for bound in bounds:
        if bound is None:
            return None
        result *= bound
    return result


def _window(node: Conv2d | SpikeMaxPool, site: _Site, shape: Shape) -> tuple[int, int]:
    height, width = ((size + 2 * node.padding - node.kernel) // node.stride + 1 for size in shape[1:])
    if height < 1 or width < 1:
        remedy = f"kernel {node.kernel} with padding {node.padding} needs a larger map"
        site.refuse("x", f"has shape {shape}", remedy)
        raise _Untypable
    return height, width


def _input(node: Input, site: _Site) -> dict[str, ValueType]:
    for key in ("mean", "std"):
        channels = len(getattr(site.graph.preprocessing, key))
        if channels != node.shape[0]:
            what = f"preprocessing {key} has {channels} channels, the shape {node.shape}"
            site.problems.add(node.name, what, "give one number a channel")
    if isinstance(node, FixedInput):
        return {"y": site.made(Kind.GRADED, node.shape, PIXEL_LIMIT)}
    return {"y": site.made(Kind.CURRENT, node.shape)}


def _conv2d(node: Conv2d, site: _Site) -> dict[str, ValueType]:
    x = site.take("x", ranks=_MAP)
    site.require("x", "the number of channels", x.shape[0], node.in_channels, "in_channels")
    return {"y": site.made(Kind.CURRENT, (node.out_channels, *_window(node, site, x.shape)))}


def _linear(node: Linear, site: _Site) -> dict[str, ValueType]:
    x = site.take("x", ranks=_TOKENS_OR_VECTOR)
    site.require("x", "the number of features", x.shape[-1], node.in_features, "in_features")
    return {"y": site.made(Kind.CURRENT, (*x.shape[:-1], node.out_features))}


def _batch_norm(node: BatchNorm, site: _Site) -> dict[str, ValueType]:
    x = site.take("x")
    features = x.shape[0] if len(x.shape) == 3 else x.shape[-1]
    site.require("x", "the number of features", features, node.features, "features")
    return {"y": site.made(Kind.CURRENT, x.shape)}


def _lif(node: LIF, site: _Site) -> dict[str, ValueType]:
    return {"s": site.made(Kind.SPIKE, site.take("x").shape, 1)}


def _spike_max_pool(node: SpikeMaxPool, site: _Site) -> dict[str, ValueType]:
    x = site.take("x", _SPIKES, _MAP)
    return {"y": site.made(Kind.SPIKE, (x.shape[0], *_window(node, site, x.shape)), 1)}


def _integrate(node: Integrate, site: _Site) -> dict[str, ValueType]:
    x = site.take("x")
    sums = node.mode == "sum" or (node.mode == "mean" and isinstance(node, FixedIntegrate))
    if node.mode == "max":
        return {"y": site.made(x.kind, x.shape, x.bound)}
    if sums and x.kind in EVENTS:
        return {"y": site.made(Kind.GRADED, x.shape, _product(x.bound, site.graph.time_steps))}
    return {"y": site.made(Kind.CURRENT, x.shape)}


def _tokens(node: Tokens, site: _Site) -> dict[str, ValueType]:
    x = site.take("x", ranks=_MAP)
    channels, height, width = x.shape
    return {"y": site.made(x.kind, (height * width, channels), x.bound)}


def _add(node: Add, site: _Site) -> dict[str, ValueType]:
    a, b = site.take("a"), site.take("b")
    site.require("b", "the shape", b.shape, a.shape, "that of a")
    if a.kind in EVENTS and b.kind in EVENTS and a.bound is not None and b.bound is not None:
        return {"y": site.made(Kind.GRADED, a.shape, a.bound + b.bound)}
    return {"y": site.made(Kind.CURRENT, a.shape)}


def _spike_mat_mul(node: SpikeMatMul, site: _Site) -> dict[str, ValueType]:
    q, k, v = (site.take(port, _SPIKES, _TOKENS) for port in node.INPUTS)
    site.require("k", "the shape", k.shape, q.shape, "that of q")
    site.require("v", "the shape", v.shape, q.shape, "that of q")
    tokens, features = q.shape
    if features % node.heads:
        what = f"{node.heads} heads do not divide {features} channels"
        site.problems.add(node.name, what, "use a number of heads that does")
    return {"y": site.made(Kind.CURRENT, q.shape, tokens * (features // node.heads))}


def _masked_column_sum(node: MaskedColumnSum, site: _Site) -> dict[str, ValueType]:
    k, v = site.take("k", _SPIKES, _TOKENS), site.take("v", _SPIKES, _TOKENS)
    site.require("v", "the shape", v.shape, k.shape, "that of k")
    return {"y": site.made(Kind.GRADED, k.shape[1:], k.shape[0])}


def _gate(node: Gate, site: _Site) -> dict[str, ValueType]:
    x = site.take("x", ranks=_TOKENS)
    if node.axis == "channel":
        mask = site.take("mask", _SPIKES, (1,))
        site.require("mask", "the shape", mask.shape, x.shape[1:], "that of a channel mask")
    return {"y": site.made(x.kind, x.shape, x.bound)}


def _halting_score(node: HaltingScore, site: _Site) -> dict[str, ValueType]:
    return {"h": site.made(Kind.SCORE, site.take("z", ranks=_TOKENS).shape[:1])}


def _halt_accumulate(node: HaltAccumulate, site: _Site) -> dict[str, ValueType]:
    shape = site.take("score", {Kind.SCORE}, (1,)).shape
    scores = (site.graph.time_steps * len(site.graph.accumulators),) if node.late else ()
    return {
        "alive": site.made(Kind.MASK, shape, 1),
        "total": site.made(Kind.MEMBRANE, (*scores, *shape)),
        "p": site.made(Kind.SCORE, shape),
    }


def _readout(node: Readout, site: _Site) -> dict[str, ValueType]:
    last = site.take(f"z{node.blocks - 1}", ranks=_TOKENS)
    for port in site.inputs:
        if port.startswith("z"):
            z = site.take(port, ranks=_TOKENS)
            site.require(port, "the shape", z.shape, last.shape, "that of the last block")
        elif port.startswith("p"):
            p = site.take(port, {Kind.SCORE}, (1,))
            site.require(port, "the shape", p.shape, last.shape[:1], "that of one weight a token")
    return {"y": site.made(Kind.CURRENT, last.shape[1:])}


def _output(node: Output, site: _Site) -> dict[str, ValueType]:
    x = site.take("x", ranks=(1,))
    site.require("x", "the number of logits", x.shape[0], len(site.graph.classes), "the number of classes")
    return {}


_RULES: dict[type[Node], _Rule] = {
    Input: _input,
    Conv2d: _conv2d,
    Linear: _linear,
    BatchNorm: _batch_norm,
    LIF: _lif,
    SpikeMaxPool: _spike_max_pool,
    Integrate: _integrate,
    Tokens: _tokens,
    Add: _add,
    SpikeMatMul: _spike_mat_mul,
    MaskedColumnSum: _masked_column_sum,
    Gate: _gate,
    HaltingScore: _halting_score,
    HaltAccumulate: _halt_accumulate,
    Readout: _readout,
    Output: _output,
}
