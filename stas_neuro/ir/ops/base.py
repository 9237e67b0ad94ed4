"""What every operation has: ports, attributes, tensors, traits, rules for types and bounds of its values.

Shapes: N tokens (row-major over the patch grid) of D channels are (N, D), maps (C, H, W), per-token values
(N,). A node's `name` is its torch module path, `scope` says which part of the model it belongs to ("stem",
"block0", ..., "halting", "head"). Tensors live in the graph under `"<name>/<param>"`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir.problems import Problems
from stas_neuro.ir.ranges import Range
from stas_neuro.ir.types import VALUES, Array, Kind, Phase, Shape, ValueType
from stas_neuro.limits import VALUES_LIMIT

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph

MAP, TOKENS, TOKENS_OR_VECTOR = (3,), (2,), (1, 2)
"""Ranks of values that a port takes."""
_SHAPES = {1: "(D,)", 2: "(N, D)", 3: "(C, H, W)"}

Wanted = NDArray[np.bool_]
"""Which values of a node are wanted, (positions, features)."""
AttributeRange = tuple[Callable[[Any], bool], str]
"""Whether an attribute is in range, and what the range is, in words."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What an operation is like, for code that treats operations by kind. Each operation gives every answer.

    Parameters
    ----------
    counts_events : bool
        It has a row in activity records.
    fires : bool
        Its output leaves its neurons as a spike, and arrives one hardware step later.
    keeps_neurons : bool
        Synaptic input ends in neurons of its own.
    makes_current : bool
        Its output is synaptic input: the sum of what its synapses, or products of spikes, bring to neurons.
    stores_weights : bool
        Its synapses have weights, which a core stores.
    multiplies_spikes : bool
        It takes products of two spikes, which a plain synapse cannot form.
    passes_current : bool
        Synaptic input passes through it on its way to neurons.
    in_place : bool
        As `passes_current`, and each value keeps its feature, and its position unless its neurons have one
        position for all.
    mixes_tokens : tuple of str
        Input ports by which a token's values reach other tokens, which may visit when it does not. Scores
        that tokens have together are not such: these tokens halt together.
    masks_tokens : bool
        Its `alive` port holds back what halted tokens would add (a bias, an update).
    needs_program : bool
        Its neurons compute what a LIF does not: a core has to be programmed for it.
    gathers : bool
        It takes values in every model step, and gives its result after the last.
    stacks : bool
        It takes the values of all stem steps at once.
    gates_tokens : bool
        Its `mask` holds back the tokens that do not visit.
    sends_if_visited : bool
        It sends for each token that is visited, whatever the value.
    may_end : bool
        Nothing has to use its outputs.
    state : str
        The integer state that a trace holds: an output port, or what the reference keeps between steps; empty
        for none.
    """

    counts_events: bool
    fires: bool
    keeps_neurons: bool
    makes_current: bool
    stores_weights: bool
    multiplies_spikes: bool
    passes_current: bool
    in_place: bool
    mixes_tokens: tuple[str, ...]
    masks_tokens: bool
    needs_program: bool
    gathers: bool
    stacks: bool
    gates_tokens: bool
    sends_if_visited: bool
    may_end: bool
    state: str


@dataclass(frozen=True)
class CoreMemory:
    """Bits that an operation takes on the core of its neurons; placement's `LayerDemand` says of what."""

    synapse_bits: Array | int = 0
    shared_bits: int = 0
    feature_bits: int = 0
    head_bits: int = 0
    head: int = 0


class MaskPort(NamedTuple):
    """A port that takes one value a token of halting, of a kind; `along` is the port beside it, of a rank."""

    along: str
    kind: Kind = Kind.MASK
    rank: int = 2


@dataclass(frozen=True, kw_only=True)
class Node:
    """Base of all nodes.

    A subclass is an operation, which `ops/__init__.py` finds by itself; with `integers_of` it is the integer
    twin of one, with `abstract` neither. What it does not define it inherits from that.
    """

    name: str
    phase: Phase
    scope: str

    INPUTS: ClassVar[tuple[str, ...]] = ("x",)
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    OUTPUTS: ClassVar[tuple[str, ...]] = ("y",)
    TRAITS: ClassVar[Traits]
    PHASES: ClassVar[frozenset[Phase]] = frozenset(Phase)
    """Phases that it can run in."""
    FOLDED_AWAY: ClassVar[bool] = False
    """Whether only traced graphs have it."""
    RANGES: ClassVar[Mapping[str, AttributeRange]] = {}
    """Ranges of attributes; without one an integer is at least 1."""

    LATER: ClassVar[frozenset[str]] = frozenset()
    """Attributes that files and text leave out at their defaults: they are newer than the operation."""
    INFINITE: ClassVar[frozenset[str]] = frozenset()
    """Floats that may be infinite, for which files and text have None: neither has a word for infinity."""

    ABSTRACT: ClassVar[bool] = True
    INTEGERS_OF: ClassVar[type[Node] | None] = None
    """The operation that an integer twin stands for."""

    def __init_subclass__(cls, *, integers_of: type[Node] | None = None, abstract: bool = False) -> None:
        super().__init_subclass__()
        cls.ABSTRACT, cls.INTEGERS_OF = abstract, integers_of
        if abstract:
            return
        for needed in ("TRAITS", "infer", "needs", "memory"):
            if not hasattr(cls, needed):
                raise TypeError(f"operation {cls.__name__} lacks {needed}")

    def __post_init__(self) -> None:
        for name in self.INFINITE:
            if getattr(self, name) is None:
                object.__setattr__(self, name, math.inf)

    @property
    def traits(self) -> Traits:
        """What the operation is like."""
        return self.TRAITS

    def written(self) -> dict[str, Any]:
        """Return the attributes as files and text hold them, in order."""
        values = {part.name: (getattr(self, part.name), part.default) for part in fields(self)}
        return {
            name: None if name in self.INFINITE and value == math.inf else value
            for name, (value, default) in values.items()
            if name not in self.LATER or value != default
        }

    @property
    def evaluated_in(self) -> Phase:
        """Phase in which it is evaluated: what gathers during the model steps answers at their end."""
        return Phase.STEP if self.traits.gathers else self.phase

    @property
    def off_core(self) -> bool:
        """Whether a processor beside the cores computes it, wholly or in part."""
        return False

    @property
    def required_inputs(self) -> tuple[str, ...]:
        """Input ports that must be connected."""
        return self.INPUTS

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """Input ports that may be left open."""
        return self.OPTIONAL

    @property
    def input_ports(self) -> tuple[str, ...]:
        """All input ports, in the order they are printed."""
        return self.required_inputs + self.optional_inputs

    @classmethod
    def record_kind(cls) -> str:
        """Return the kind of its rows in activity records, which prices go by."""
        return (cls.INTEGERS_OF or cls).__name__

    def params(self, time_steps: int) -> dict[str, Shape]:
        """Return the shapes of the tensors, by parameter name, in a graph of `time_steps` steps."""
        return {}

    def check(self, problems: Problems) -> None:
        """Note attributes that do not go together; each by itself is of its type and in range."""

    def mask_port(self, port: str) -> MaskPort | None:
        """Tell what an input port takes of halting, None if nothing."""
        return MaskPort("x") if port == "alive" else None

    if TYPE_CHECKING:  # no default: an operation without the rule fails when it is defined

        def infer(self, at: TypeContext) -> dict[str, ValueType]:
            """Type the output ports."""
            raise NotImplementedError

        def needs(self, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
            """Find the values at ports of `shapes` that wanted outputs depend on.

            bool (positions, features): H*W and C of a map (C, H, W), N and D of tokens (N, D), 1 and D of a
            vector (D,), N and 1 of one value a token (N,). They are not written to: see `folded`.

            Of some features at some positions, a port has a product again: its positions depend on the
            positions alone, its features on the features alone. Placement relies on it.
            """
            raise NotImplementedError

        def memory(self, entering: Mapping[str, Shape], leaving: Shape, bits: int) -> CoreMemory:
            """Give the memory it takes, with the shapes at its ports, that of its output, bits a weight."""
            raise NotImplementedError

        def bound(self, at: BoundContext) -> dict[str, Range]:
            """Give the ranges of the output ports, of a node of the quantised stage."""
            raise NotImplementedError


def same_values(node: Node, wanted: Wanted, shapes: Mapping[str, Shape]) -> dict[str, Wanted]:
    """Depend for each output value on the same value of each input."""
    return dict.fromkeys(shapes, wanted)


def folded(wanted: Wanted) -> Wanted:
    """Give values once along an axis on which they are the same view (`np.broadcast_to`), of length 1 then.

    Most pieces hold all features or all positions, so that rules cost as much as one feature or position.
    """
    return wanted[tuple(slice(None if step else 1) for step in wanted.strides)]


def union(a: Wanted, b: Wanted) -> Wanted:
    """Tell what is wanted in either, of the same shape."""
    return np.broadcast_to(folded(a) | folded(b), a.shape)


def anywhere(wanted: Wanted, axis: int) -> Wanted:
    """Tell where anything is wanted along an axis, which stays with a length of 1."""
    shape = tuple(1 if at == axis else length for at, length in enumerate(wanted.shape))
    return np.broadcast_to(folded(wanted).any(axis=axis, keepdims=True), shape)


def in_parts(wanted: Wanted, parts: int) -> Wanted:
    """Tell in which equal parts of the features anything is wanted, (positions, parts)."""
    if wanted.strides[1] == 0:
        return np.broadcast_to(wanted[:, :1], (len(wanted), parts))
    return np.asarray(wanted.reshape(len(wanted), parts, -1).any(axis=2))


def of_parts(wanted: Wanted, features: int) -> Wanted:
    """Want all features of the parts (positions, parts) that are wanted, (positions, features)."""
    if wanted.shape[1] == 1 or wanted.strides[1] == 0:
        return np.broadcast_to(wanted[:, :1], (len(wanted), features))
    return np.repeat(wanted, features // wanted.shape[1], axis=1)


def no_memory(node: Node, entering: Mapping[str, Shape], leaving: Shape, bits: int) -> CoreMemory:
    """Take no memory but for neurons."""
    return CoreMemory()


def check_heads(at: TypeContext, heads: int, features: int) -> None:
    """Note a problem unless every head has the same number of channels."""
    if features % heads:
        what = f"{heads} heads do not divide {features} channels"
        at.problems.add(at.node.name, what, "use a number of heads that does")


class Untypable(Exception):
    """An input has no type, or none that the rule could go on with; the problem is noted already."""


@dataclass(frozen=True)
class TypeContext:
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
            raise Untypable
        value = self.inputs[port]
        if value.kind not in kinds:
            words = " or ".join(sorted(kinds))
            self.refuse(port, f"is {value}", f"{type(self.node).__name__} takes {words} here")
        if len(value.shape) not in ranks:
            shapes = " or ".join(_SHAPES[rank] for rank in ranks)
            self.refuse(port, f"has shape {value.shape}", f"{type(self.node).__name__} takes {shapes} here")
            raise Untypable
        return value

    def refuse(self, port: str, what: str, remedy: str) -> None:
        """Note a problem at a port."""
        self.problems.add(f"{self.node.name}:{port}", what, remedy)

    def require(self, port: str, what: str, actual: int | Shape, wanted: int | Shape, limit: str) -> None:
        """Note a problem unless a size is what the node needs."""
        if actual != wanted:
            self.refuse(port, f"{what} is {actual}, {limit} is {wanted}", "make them equal")

    def made(self, kind: Kind, shape: Shape, bound: int | None = None) -> ValueType:
        """Type an output."""
        if math.prod(shape) > VALUES_LIMIT:
            what = f"its output of shape {shape} has {math.prod(shape)} values"
            self.problems.add(self.node.name, what, f"a value has at most {VALUES_LIMIT}: use smaller images")
            raise Untypable
        return ValueType(kind, shape, self.node.phase, bound)


@dataclass(frozen=True)
class BoundContext:
    """A node of a quantised graph while its outputs are bounded."""

    node: Node
    graph: Graph
    inputs: Mapping[str, Range]
    types: Mapping[tuple[str, str], ValueType]
    problems: Problems

    def tensor(self, param: str) -> Array:
        """Return a tensor of the node, int64."""
        return self.graph.tensor(self.node, param).astype(np.int64)

    def source_type(self, port: str) -> ValueType:
        """Return the type of what an input port takes."""
        edge = self.graph.inputs(self.node)[port]
        return self.types[edge.src, edge.src_port]

    def fits(self, what: str, value: Range, limit: int, remedy: str) -> None:
        """Note a problem where a value can leave [-limit, limit]."""
        if value.magnitude > limit:
            bits = limit.bit_length() + 1
            self.problems.add(
                self.node.name,
                f"{what} can reach {value.low}..{value.high}, beyond the {limit} of {bits} bits with sign",
                remedy,
            )


AT_LEAST_0: AttributeRange = (lambda value: value >= 0, "it must be at least 0")


def within(low: int, high: int) -> AttributeRange:
    """Range of a whole number."""
    return lambda value: low <= value <= high, f"it must be in {low}..{high}"


def product(*bounds: int | None) -> int | None:
    """Multiply bounds; None where one is not known."""
    result = 1
    for bound in bounds:
        if bound is None:
            return None
        result *= bound
    return result
