"""The comparison of two graphs: silent on equal ones, and every change is named."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, recipes

from stas_neuro.exporters.lava.saved import load_network, save_network
from stas_neuro.ir import Edge, Graph, Phase, Preprocessing, Stage, Tokens
from stas_neuro.passes.quantise import Quantise
from stas_neuro.verifier.differences import Difference, differences

FLOAT = build(Recipe(norm=False, stem="learned"))
FIXED = Quantise()(FLOAT)
OTHER = Quantise(encoding="bias", exponents="channel")(
    build(
        Recipe(norm=False, halting="rectangular", sdsa=True, membrane=True, stem="mean", closes=1, together=2)
    )
)
GRAPHS = pytest.mark.parametrize("graph", [FLOAT, FIXED, OTHER], ids=["float", "fixed", "other"])


def unverified(graph: Graph, **changes: Any) -> Graph:
    """A graph with changes that it may be refused for when it is made."""
    changed = copy.copy(graph)
    for name, value in changes.items():
        object.__setattr__(changed, name, value)
    return changed


def node_with(graph: Graph, name: str, **changes: Any) -> Graph:
    nodes = (replace(node, **changes) if node.name == name else node for node in graph.nodes)
    return unverified(graph, nodes=tuple(nodes))


def tensor_with(graph: Graph, key: str, change: Callable[[np.ndarray], np.ndarray]) -> Graph:
    changed = np.ascontiguousarray(change(graph.tensors[key].copy()))
    return unverified(graph, tensors={**graph.tensors, key: changed})


def only(graph: Graph, network: Graph) -> Difference:
    found = differences(graph, network)
    assert len(found) == 1, found
    return found[0]


@settings(max_examples=60)
@given(recipe=recipes(norm=False), fixed=st.booleans())
def test_a_graph_made_twice_differs_in_nothing(recipe: Recipe, fixed: bool) -> None:
    lower = Quantise() if fixed else lambda graph: graph
    assert differences(lower(build(recipe)), lower(build(recipe))) == []


@GRAPHS
def test_a_file_differs_in_nothing(graph: Graph, tmp_path: Path) -> None:
    save_network(graph, tmp_path)
    assert differences(graph, load_network(tmp_path)) == []


def set_at(index: tuple[int, ...], value: Callable[[int], int]) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[index] = value(int(array[index]))
        return array

    return change


def test_a_flipped_bit_of_a_weight_is_named_with_its_place() -> None:
    weight = FIXED.tensor("blocks.1.fc1", "weight")
    difference = only(FIXED, tensor_with(FIXED, "blocks.1.fc1/weight", set_at((3, 2), lambda w: w ^ 16)))
    assert difference == Difference("blocks.1.fc1", "weight[3, 2]", str(weight[3, 2]), str(weight[3, 2] ^ 16))
    assert (
        str(difference) == f"blocks.1.fc1: weight[3, 2] is {weight[3, 2] ^ 16}, in the graph {weight[3, 2]}"
    )


def test_a_dropped_tensor_is_named() -> None:
    tensors = {key: array for key, array in FIXED.tensors.items() if key != "head/bias"}
    found = only(FIXED, unverified(FIXED, tensors=tensors))
    assert found == Difference("head", "bias", "int16 (3,)", "absent")


def test_a_transposed_kernel_is_named() -> None:
    found = only(FIXED, tensor_with(FIXED, "stem.conv0/weight", lambda w: w.swapaxes(2, 3)))
    assert found.layer == "stem.conv0" and found.what.startswith("weight[0, 0, 0, 1]")


@GRAPHS
def test_every_attribute_of_every_node_is_compared(graph: Graph) -> None:
    for node in graph.nodes:
        for field in fields(node):
            value = getattr(node, field.name)
            for other in () if field.name == "name" else others(value):
                found = only(graph, node_with(graph, node.name, **{field.name: other}))
                assert found == Difference(node.name, field.name, repr(value), repr(other))


def others(value: Any) -> Iterator[Any]:
    """Values that an attribute may be confused with."""
    if isinstance(value, bool):
        yield from (not value, int(value))
    elif isinstance(value, int):
        yield from (value + 1, -value - 1, float(value))
    elif isinstance(value, float):
        yield np.nextafter(value, 1e9).item()
    elif value is None:
        yield 0
    elif isinstance(value, Phase):
        yield next(phase for phase in Phase if phase != value)
    elif isinstance(value, str):
        yield value + " "
    else:
        yield (*value, 1)


@GRAPHS
def test_every_number_of_every_tensor_is_compared(graph: Graph) -> None:
    for key, array in graph.tensors.items():
        node, param = key.rsplit("/")
        last = tuple(size - 1 for size in array.shape)

        def next_last(array: np.ndarray, last: tuple[int, ...] = last) -> np.ndarray:
            array[last] = array[last] + 1 if array.dtype == np.int16 else np.nextafter(array[last], 9)
            return array

        found = only(graph, tensor_with(graph, key, next_last))
        assert (found.layer, found.what) == (node, f"{param}[{', '.join(map(str, last))}]")
        assert (found.graph, found.network) == (str(array[last]), str(next_last(array.copy())[last]))
        wider = only(graph, tensor_with(graph, key, lambda a: a.astype(np.float32)))
        assert (wider.layer, wider.what, wider.network) == (node, param, f"float32 {array.shape}")
        flat = only(graph, tensor_with(graph, key, lambda a: a[None]))
        assert flat.graph == f"{array.dtype} {array.shape}"


def test_zeros_of_either_sign_are_two_numbers() -> None:
    graph = replace(FLOAT, tensors={**FLOAT.tensors, "head/bias": np.zeros(3)})
    found = only(graph, tensor_with(graph, "head/bias", np.negative))
    assert (found.what, found.graph, found.network) == ("bias[0]", "0.0", "-0.0")


@GRAPHS
def test_every_edge_is_compared(graph: Graph) -> None:
    for index, edge in enumerate(graph.edges):

        def rewired(*given: Edge, index: int = index) -> Graph:
            return unverified(graph, edges=(*graph.edges[:index], *given, *graph.edges[index + 1 :]))

        place = (edge.dst, f"input {edge.dst_port}")
        cut = only(graph, rewired())
        assert (cut.layer, cut.what, cut.network) == (*place, "open")
        late = only(graph, rewired(replace(edge, delay=1 - edge.delay)))
        assert (late.layer, late.what) == place and "1 step late" in late.graph + late.network
        other = only(graph, rewired(replace(edge, src_port="other")))
        assert (other.layer, other.what) == place and other.network.startswith(f"from {edge.src}:other")


@GRAPHS
def test_what_a_node_is_is_compared(graph: Graph) -> None:
    stranger = Tokens(name="nobody", phase=Phase.STEP, scope="stem")
    for node in graph.nodes:
        fewer = unverified(graph, nodes=tuple(each for each in graph.nodes if each is not node))
        assert Difference(node.name, "type", repr(type(node).__name__), "absent") in differences(graph, fewer)
        other = replace(stranger, name=node.name)
        nodes = tuple(other if each is node else each for each in graph.nodes)
        found = differences(graph, unverified(graph, nodes=nodes))
        assert isinstance(node, Tokens) or ("type", "'Tokens'") in [(f.what, f.network) for f in found]
    found = differences(graph, unverified(graph, nodes=(*graph.nodes, stranger)))
    assert found[0] == Difference("nobody", "type", "absent", "'Tokens'")


@GRAPHS
def test_what_the_whole_is_is_compared(graph: Graph) -> None:
    for what, value in {"stage": Stage.TRACED, "time_steps": 9, "classes": ("a",)}.items():
        found = only(graph, unverified(graph, **{what: value}))
        assert (found.layer, found.what, found.network) == ("", what, repr(value))
        assert str(found).startswith(f"{what} is ")
    mean, std = graph.preprocessing.mean, graph.preprocessing.std
    for what, other in (("mean", Preprocessing((0.25,), std)), ("std", Preprocessing(mean, (7.0,)))):
        assert only(graph, unverified(graph, preprocessing=other)).what == what


def test_the_graph_of_another_network_differs() -> None:
    assert differences(FIXED, FLOAT)[0].what == "stage"
