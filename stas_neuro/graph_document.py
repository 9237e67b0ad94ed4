"""A graph as plain data, without its tensors: what bundles and packages for Lava keep as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, TypeVar

from stas_neuro.documents import BadDocument, shown
from stas_neuro.ir import NODE_TYPES, Array, Edge, Graph, Node, Phase, Preprocessing, Stage

Document = dict[str, Any]
T = TypeVar("T")
W = TypeVar("W", bound=Enum)

_KEYS = ("stage", "time_steps", "classes", "preprocessing", "nodes", "edges")


def graph_document(graph: Graph) -> Document:
    """Write a graph as data that `json` can write; its tensors are left out."""
    return {
        "stage": graph.stage,
        "time_steps": graph.time_steps,
        "classes": graph.classes,
        "preprocessing": dataclasses.asdict(graph.preprocessing),
        "nodes": [{"type": type(node).__name__} | node.written() for node in graph.nodes],
        "edges": [dataclasses.asdict(edge) for edge in graph.edges],
    }


def read_graph(document: object, tensors: Mapping[str, Array]) -> Graph:
    """Make the graph of what `documents.parse_json` gave.

    Parameters
    ----------
    document : object
        As `graph_document` writes it. An attribute that has a default may be left out.
    tensors : mapping
        Arrays by "<node>/<param>".

    Raises
    ------
    BadDocument
        Where it is not of this form; names the first place.
    IRError
        Where the graph breaks a rule of the IR; names every place.
    """
    given = _object(document, (), _KEYS, _KEYS)
    return Graph(
        stage=_word(Stage, given["stage"], "stage"),
        time_steps=given["time_steps"],
        classes=tuple(_list(given["classes"], "classes")),
        preprocessing=_made(Preprocessing, given["preprocessing"], ("preprocessing",)),
        nodes=tuple(_node(each, index) for index, each in enumerate(_list(given["nodes"], "nodes"))),
        edges=tuple(
            _made(Edge, each, ("edges", str(index)))
            for index, each in enumerate(_list(given["edges"], "edges"))
        ),
        tensors=tensors,
    )


def _node(document: object, index: int) -> Node:
    place = ("nodes", str(index))
    given = dict(_object(document, place))
    kind = given.pop("type", None)
    cls = NODE_TYPES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise BadDocument(f"there is no node type {shown(repr(kind))}", (*place, "type"))
    if "phase" in given:
        given["phase"] = _word(Phase, given["phase"], *place, "phase")
    return _made(cls, given, place)


def _made(cls: type[T], document: object, place: tuple[str, ...]) -> T:
    """Make a dataclass of an object that has its fields; a list stands for a tuple."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    needed = [field.name for field in fields if field.default is dataclasses.MISSING]
    given = _object(document, place, [field.name for field in fields], needed)
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


def _object(
    document: object,
    place: tuple[str, ...],
    known: Collection[str] | None = None,
    needed: Collection[str] = (),
) -> Document:
    if not isinstance(document, dict):
        raise BadDocument(f"is {shown(repr(document))}, it must be an object", place)
    for key in needed:
        if key not in document:
            raise BadDocument(f"has no {key!r}", place)
    for key in document:
        if known is not None and key not in known:
            raise BadDocument(f"has an unknown key {shown(key)!r}", place)
    return document


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadDocument(f"is {shown(repr(value))}, it must be a list", (name,))
    return value


def _word(words: type[W], value: object, *place: str) -> W:
    for word in words:
        if word.value == value:
            return word
    raise BadDocument(
        f"is {shown(repr(value))}, it must be one of {', '.join(str(word.value) for word in words)}", place
    )
