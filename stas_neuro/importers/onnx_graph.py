"""Graphs of ONNX files that stas-neuro wrote.

Weights are the file's initialisers; kinds and attributes of nodes are in its metadata. The graph is written
anew, and all that computes in the file has to be what is written: nodes cannot disagree with the metadata.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stas_neuro.documents import BadDocument, shown
from stas_neuro.errors import InputError
from stas_neuro.exporters.onnx.origin import KEY, Origin
from stas_neuro.exporters.onnx.refusals import refusals
from stas_neuro.extras import needs
from stas_neuro.graph_document import read_graph
from stas_neuro.ir import Array, Graph, IRError, Problem

if TYPE_CHECKING:
    import onnx

_REMEDY = "convert the bundle again"
_DTYPES = {1: "<f4", 5: "<i2", 11: "<f8"}
"""Of tensors of graphs, by their number in ONNX."""


def is_ours(model: onnx.ModelProto) -> bool:
    """Tell whether stas-neuro wrote a file."""
    return any(entry.key == KEY for entry in model.metadata_props)


def graph_of(model: onnx.ModelProto) -> Graph:
    """Make the graph of a file that `is_ours`, bit for bit the one that it was written from.

    The model's initialisers and metadata are taken out of it.

    Raises
    ------
    InputError
        When its metadata are damaged or of another version, they are of no valid graph, or the file holds
        anything that disagrees with them: names each node and function.
    """
    with needs("onnx"):
        from stas_neuro.exporters.onnx.model import make_model
    (text, *others) = [entry.value for entry in model.metadata_props if entry.key == KEY]
    if others:
        raise InputError(f"metadata {KEY} are there twice", _REMEDY)
    origin = Origin.from_json(text)
    try:
        graph = read_graph(origin.graph, _tensors(model))
    except IRError as error:
        raise InputError(f"metadata {KEY}: invalid graph: {error.what}", error.remedy) from error
    except BadDocument as error:
        raise InputError(f"metadata {KEY}: {error}", _REMEDY) from error
    if problems := refusals(graph):
        raise IRError(*problems)
    written = make_model(graph, dtype=origin.dtype, spikes=origin.spikes)
    for each in (model, written):
        del each.graph.initializer[:], each.metadata_props[:]
    if problems := list(_differences(model, written)):
        raise IRError(*problems)
    return graph


def _tensors(model: onnx.ModelProto) -> dict[str, Array]:
    """Read the initialisers."""
    tensors: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        name, dtype, shape = tensor.name, _DTYPES.get(tensor.data_type), tuple(tensor.dims)
        if name in tensors:
            raise BadDocument("is there twice", ("initializer", name))
        if dtype is None:
            raise BadDocument(
                f"has the data type {tensor.data_type}, not that of weights", ("initializer", name)
            )
        if min(shape, default=0) < 0:
            raise BadDocument(f"has the shape {shape}", ("initializer", name))
        size = np.dtype(dtype).itemsize * math.prod(shape)
        if len(tensor.raw_data) != size:
            what = f"has {len(tensor.raw_data)} bytes of raw_data, its shape {shape} takes {size}"
            raise BadDocument(what, ("initializer", name))
        tensors[name] = np.frombuffer(tensor.raw_data, dtype).reshape(shape)
    return tensors


def _differences(model: onnx.ModelProto, written: onnx.ModelProto) -> Iterator[Problem]:
    """Give a problem for each part of a model that is not what the metadata say."""
    if model == written:
        return
    found = 0
    for kind, parts in (("function", _functions), ("node", _nodes)):
        given, wanted = parts(model), parts(written)
        for name in sorted({*given, *wanted}):
            if given.get(name) != wanted.get(name):
                found += 1
                yield _problem(f"{kind} {shown(name)}", given.get(name), wanted.get(name))
    if not found:
        yield Problem("graph", f"inputs, outputs or versions are not what the metadata {KEY} say", _REMEDY)


def _problem(where: str, given: Any, wanted: Any) -> Problem:
    if given is None:
        return Problem(where, f"is missing, and the metadata {KEY} say what it computes", _REMEDY)
    if wanted is None:
        return Problem(where, f"is none that the metadata {KEY} know", _REMEDY)
    return Problem(where, f"computes something else than the metadata {KEY} say", _REMEDY)


def _functions(model: onnx.ModelProto) -> Mapping[str, Any]:
    return {function.name: function for function in model.functions}


def _nodes(model: onnx.ModelProto) -> Mapping[str, Any]:
    """Name the nodes by themselves, or by what they give; those of a Scan too."""
    found = {}
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        for node in graph.node:
            waiting += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
            found[node.name or ", ".join(node.output)] = node
    return found
