"""Attributes of nodes, edges and the graph: types (a file can hold anything) and ranges."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from stas_neuro.ir.fixed import (
    NODE_TYPES,
    FixedAdd,
    FixedConv2d,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedIntegrate,
    FixedLIF,
    FixedLinear,
    FixedMaskedColumnSum,
    FixedOutput,
    FixedReadout,
    FixedSpikeMatMul,
)
from stas_neuro.ir.nodes import (
    LIF,
    BatchNorm,
    Conv2d,
    Edge,
    HaltAccumulate,
    Input,
    Node,
    Readout,
    SpikeMatMul,
    SpikeMaxPool,
)
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.types import Stage

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph

STEPS_LIMIT = BLOCKS_LIMIT = 1024
"""Of model steps and of network blocks: far beyond any network, and few enough to count one by one."""
KERNEL_LIMIT = 64
"""Of a window's width; a patch of an image is 4 to 32 wide."""
FLOAT_LIMIT, STD_LEAST = 1e12, 1e-6
"""Largest magnitude of a float, attribute or tensor, and least deviation: sums of products stay finite."""
_AT_LEAST_0 = frozenset({"padding", "delay", "late"})
"""Integer attributes that may be 0; all others are sizes and counts, at least 1."""


def _within(low: int, high: int) -> tuple[Callable[[Any], bool], str]:
    return lambda value: low <= value <= high, f"it must be in {low}..{high}"


_RANGES: dict[tuple[type, str], tuple[Callable[[Any], bool], str]] = {
    (Input, "shape"): (
        lambda shape: len(shape) == 3 and min(shape) > 0,
        "it must be (C, H, W), each above 0",
    ),
    **{(cls, "kernel"): _within(1, KERNEL_LIMIT) for cls in (Conv2d, SpikeMaxPool)},
    (Readout, "blocks"): _within(1, BLOCKS_LIMIT),
    (LIF, "tau"): (lambda tau: tau >= 1, "a membrane time constant is at least 1 step"),
    (LIF, "threshold"): (lambda threshold: threshold > 0, "a threshold is above 0, the reset value"),
    (BatchNorm, "eps"): (lambda eps: eps > 0, "it must be above 0"),
    (SpikeMatMul, "scale"): (lambda scale: scale > 0, "it must be above 0"),
    (HaltAccumulate, "epsilon"): (lambda epsilon: 0 <= epsilon < 1, "it must be in [0, 1), such as 0.01"),
    (HaltAccumulate, "lags"): (lambda lags: min(lags, default=0) >= 0, "scores arrive 0 or more steps late"),
    **{(cls, "weight_bits"): _within(1, 9) for cls in (FixedConv2d, FixedLinear)},
    **{(cls, "bias_exp"): _within(0, 7) for cls in (FixedConv2d, FixedLinear)},
    **{(cls, "exponent"): _within(0, 7) for cls in (FixedSpikeMatMul, FixedMaskedColumnSum)},
    **{(cls, "shift"): _within(0, 31) for cls in (FixedIntegrate, FixedHaltingScore)},
    **{(FixedReadout, name): _within(0, 31) for name in ("z_shift", "y_shift", "divide_bits")},
    **{(FixedAdd, name): _within(1, 256) for name in ("a_weight", "b_weight")},
    (FixedLIF, "dv"): _within(0, 4095),
    (FixedLIF, "vth"): _within(0, 2**17 - 1),
    (FixedHaltingScore, "low"): _within(-(2**15), 2**15),
    (FixedHaltAccumulate, "score_bits"): _within(1, 14),
    (FixedOutput, "unit"): (lambda unit: unit > 0, "it must be above 0"),
}
"""Range and its words for attributes that have one of their own."""


def _annotated(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


ATTRIBUTES: dict[type, dict[str, Any]] = {cls: _annotated(cls) for cls in (*NODE_TYPES.values(), Edge)}
"""Annotated type of each attribute of nodes and edges, in order."""


def check_attributes(graph: Graph, problems: Problems) -> None:
    """Add a problem for each attribute of the wrong type or out of range."""
    _check_graph(graph, problems)
    for node in graph.nodes:
        if type(node) not in ATTRIBUTES:
            problems.add(str(node), "is no node of the IR", f"the nodes are {', '.join(NODE_TYPES)}")
            continue
        _check_typed(node, str(node.name), problems)
        if isinstance(node, Conv2d | SpikeMaxPool) and not problems.found and node.padding >= node.kernel:
            what = f"padding {node.padding} reaches the kernel {node.kernel}"
            problems.add(node.name, what, "a window must touch the map: padding < kernel")
    for edge in graph.edges:
        _check_typed(edge, str(edge), problems)


def _check_graph(graph: Graph, problems: Problems) -> None:
    if not _is(graph.stage, Stage):
        problems.add("graph", f"stage is {graph.stage!r}", f"it must be {_words(Stage)}")
    if not _is(graph.time_steps, int) or not 1 <= graph.time_steps <= STEPS_LIMIT:
        remedy = f"use a whole number, 1 to {STEPS_LIMIT}"
        problems.add("graph", f"time_steps is {graph.time_steps!r}", remedy)
    if not graph.classes or not all(isinstance(name, str) and name for name in graph.classes):
        problems.add("graph", f"classes are {graph.classes!r}", "name every class")
    for key in ("mean", "std"):
        values = getattr(graph.preprocessing, key)
        if not _is(values, tuple[float, ...]) or not all(map(_is_moderate, values)):
            remedy = f"give one number a channel, at most {FLOAT_LIMIT:g}"
            problems.add("graph", f"preprocessing {key} is {values!r}", remedy)
        elif key == "std" and not all(value >= STD_LEAST for value in values):
            remedy = f"every deviation is above 0, at least {STD_LEAST:g}"
            problems.add("graph", f"preprocessing std is {values!r}", remedy)


def _check_typed(item: Node | Edge, where: str, problems: Problems) -> None:
    for attribute, hint in ATTRIBUTES[type(item)].items():
        value = getattr(item, attribute)
        least = 0 if attribute in _AT_LEAST_0 else 1
        own_range = _range_of(type(item), attribute)
        in_range, remedy = own_range or (lambda _: True, "")
        if not _is(value, hint):
            problems.add(where, f"{attribute} is {value!r}", f"it must be {_words(hint)}")
        elif hint is int and own_range is None and value < least:
            problems.add(where, f"{attribute} is {value}", f"it must be at least {least}")
        elif hint is float and not _is_moderate(value):
            problems.add(where, f"{attribute} is {value}", f"it must be at most {FLOAT_LIMIT:g}")
        elif not in_range(value):
            problems.add(where, f"{attribute} is {value}", remedy)


def _is_moderate(value: float) -> bool:
    return abs(value) <= FLOAT_LIMIT  # neither is NaN


def _range_of(cls: type, attribute: str) -> tuple[Callable[[Any], bool], str] | None:
    """Find the range of an attribute: its own, or that of the type it inherits it from."""
    return next((_RANGES[base, attribute] for base in cls.__mro__ if (base, attribute) in _RANGES), None)


def _is(value: object, hint: Any) -> bool:
    """Tell whether `value` has the annotated type; an int may stand for a float, a bool for neither."""
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is(item, get_args(hint)[0]) for item in value)
    if hint in (int, float):
        # Exactly these: bools are no numbers here, and numpy's scalars would print as something else.
        return type(value) in ((int, float) if hint is float else (int,))
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(map(str, hint))
    if get_origin(hint) is tuple:
        return f"a tuple of {get_args(hint)[0].__name__}"
    return {int: "a Python int", float: "a Python float", bool: "True or False"}.get(hint, "a text")
