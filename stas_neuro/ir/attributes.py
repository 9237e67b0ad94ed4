"""Attributes of nodes, edges and the graph: types (a file can hold anything) and ranges."""

from __future__ import annotations

import dataclasses
import math
from enum import Enum
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from stas_neuro.ir.edges import Edge
from stas_neuro.ir.ops import NODE_TYPES
from stas_neuro.ir.ops.base import AttributeRange, Node
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.types import Stage
from stas_neuro.limits import FLOAT_LIMIT, STD_LEAST, STEPS_LIMIT

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph


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
        if not problems.found:
            node.check(problems)
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
        # Without a range of its own a number is a size or a count; only the delay of an edge may be 0.
        least = 0 if isinstance(item, Edge) else 1
        own_range = _range_of(type(item), attribute)
        in_range, remedy = own_range or (lambda _: True, "")
        if not _is(value, hint):
            problems.add(where, f"{attribute} is {value!r}", f"it must be {_words(hint)}")
        elif hint is int and own_range is None and value < least:
            problems.add(where, f"{attribute} is {value}", f"it must be at least {least}")
        elif hint is float and not (_is_moderate(value) or _is_infinite(item, attribute)):
            problems.add(where, f"{attribute} is {value}", f"it must be at most {FLOAT_LIMIT:g}")
        elif not in_range(value):
            problems.add(where, f"{attribute} is {value}", remedy)


def _is_moderate(value: float) -> bool:
    return abs(value) <= FLOAT_LIMIT  # neither is NaN


def _is_infinite(item: Node | Edge, attribute: str) -> bool:
    """Tell whether an attribute that may be infinite is."""
    return isinstance(item, Node) and attribute in item.INFINITE and getattr(item, attribute) == math.inf


def _range_of(cls: type, attribute: str) -> AttributeRange | None:
    """Find the range of an attribute: its own, or that of the type it inherits it from."""
    found = (vars(base).get("RANGES", {}).get(attribute) for base in cls.__mro__)
    return next((each for each in found if each is not None), None)


def _is(value: object, hint: Any) -> bool:
    """Tell whether `value` has the annotated type; an int may stand for a float, a bool for neither."""
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_origin(hint) is UnionType:
        return any(_is(value, each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        each, *others = get_args(hint)
        if not isinstance(value, tuple) or not all(_is(item, each) for item in value):
            return False
        return others == [...] or len(value) == 1 + len(others)
    if hint in (int, float):
        # Exactly these: bools are no numbers here, and numpy's scalars would print as something else.
        return type(value) in ((int, float) if hint is float else (int,))
    return isinstance(value, hint)


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(map(str, hint))
    if get_origin(hint) is UnionType:
        return " or ".join(map(_words, get_args(hint)))
    if get_origin(hint) is tuple:
        each, *others = get_args(hint)
        count = "" if others == [...] else f"{1 + len(others)} "
        return f"a tuple of {count}{each.__name__}"
    return {int: "a Python int", float: "a Python float", bool: "True or False"}.get(hint, "a text")
