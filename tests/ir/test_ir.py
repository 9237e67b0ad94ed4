"""Graphs: what they offer, what their values' types are, and that no invalid one can be made."""

from __future__ import annotations

import dataclasses
import math
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ir_random import Recipe, build, graphs

from stas_neuro.errors import InputError
from stas_neuro.ir import (
    Add,
    Edge,
    Graph,
    HaltAccumulate,
    IRError,
    Kind,
    Linear,
    Phase,
    Preprocessing,
    Problem,
    Stage,
    ValueType,
    neutral,
)


def with_node(graph: Graph, name: str, /, **changes: Any) -> Graph:
    nodes = tuple(dataclasses.replace(node, **changes) if node.name == name else node for node in graph.nodes)
    return dataclasses.replace(graph, nodes=nodes)


def with_tensor(graph: Graph, key: str, tensor: np.ndarray | None) -> Graph:
    tensors = {k: v for k, v in graph.tensors.items() if k != key}
    return dataclasses.replace(graph, tensors=tensors | ({} if tensor is None else {key: tensor}))


def plus(graph: Graph, *edges: Edge, nodes: tuple[Any, ...] = (), **fields: Any) -> Graph:
    return dataclasses.replace(graph, edges=graph.edges + edges, nodes=graph.nodes + nodes, **fields)


def rewired(graph: Graph, dst: str, port: str, **changes: Any) -> Graph:
    """Change the edge into a port."""
    edges = tuple(
        dataclasses.replace(edge, **changes) if (edge.dst, edge.dst_port) == (dst, port) else edge
        for edge in graph.edges
    )
    assert edges != graph.edges
    return dataclasses.replace(graph, edges=edges)


def without(graph: Graph, dst: str, port: str) -> Graph:
    edges = tuple(edge for edge in graph.edges if (edge.dst, edge.dst_port) != (dst, port))
    assert edges != graph.edges
    return dataclasses.replace(graph, edges=edges)


def scored_by_a_weight(graph: Graph) -> Graph:
    """Let the readout use what halt1 should, and halt1 the weight of halt0."""
    source = {("halt1", "score"): ("halt0", "p"), ("readout", "p1"): ("score1", "h")}
    edges = (
        dataclasses.replace(edge, src=source[key][0], src_port=source[key][1]) if key in source else edge
        for edge in graph.edges
        for key in ((edge.dst, edge.dst_port),)
    )
    return dataclasses.replace(graph, edges=tuple(edges))


# What a graph offers ------------------------------------------------------------------------------------


def test_an_error_names_a_hundred_problems_at_most():
    problems = [Problem(f"node{number}", "is wrong", "mend it") for number in range(250)]
    error = IRError(*problems)
    assert str(error).startswith("250 problems, 150 of them not shown: node0: is wrong; mend it | node1: ")
    assert str(error).endswith("node98: is wrong; mend it | node249: is wrong; mend it")
    assert error.problems == tuple(problems) and "not shown" not in str(IRError(*problems[:100]))


def test_look_ups():
    graph = build(Recipe(halting="raster"))
    q = graph.node("blocks.0.q")
    assert isinstance(q, Linear)
    assert graph.inputs(q) == {
        "x": Edge("blocks.0.gate", "y", "blocks.0.q", "x"),
        "alive": Edge("halt1", "alive", "blocks.0.q", "alive", 1),
    }
    assert graph.tensor(q, "weight") is graph.tensor("blocks.0.q", "weight")
    assert graph.tensor(q, "weight").shape == (6, 6)
    assert graph.consumers(q) == (Edge("blocks.0.q", "y", "blocks.0.q_bn", "x"),)
    assert {edge.delay for edge in graph.consumers("halt1", "total")} == {1}
    assert graph.source_type(graph.inputs(q)["x"]).kind is Kind.GRADED
    assert (graph.input.name, graph.output.name, graph.readout.name) == ("input", "output", "readout")
    assert [node.name for node in graph.accumulators] == ["halt0", "halt1"]
    assert (graph.blocks, graph.tokens) == (2, 6)
    with pytest.raises(KeyError):
        graph.node("nobody")


def test_tensors_are_frozen_and_safe_from_their_maker():
    graph = build(Recipe())
    mine = np.ones((3, 6))
    copied = with_tensor(graph, "head/weight", mine)
    mine[...] = 7
    assert (copied.tensor("head", "weight") == 1).all()
    view = np.ones((3, 6))[:]
    view.setflags(write=False)
    viewed = with_tensor(graph, "head/weight", view)
    view.base[...] = 7
    assert (viewed.tensor("head", "weight") == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        graph.tensor("head", "weight")[0, 0] = 1
    with pytest.raises(TypeError):
        graph.tensors["head/weight"] = mine  # type: ignore[index]
    # Frozen tensors travel through rewrites uncopied.
    assert dataclasses.replace(graph).tensor("head", "weight") is graph.tensor("head", "weight")


def test_equality_sees_every_part():
    graph = build(Recipe())
    assert graph == build(Recipe())
    assert graph != build(Recipe(seed=1))
    weight = graph.tensor("head", "weight").copy()
    weight[0, 0] = np.nextafter(weight[0, 0], 9)
    assert graph != with_tensor(graph, "head/weight", weight)
    assert graph != with_node(graph, "blocks.0.q_lif", threshold=2.0)
    assert graph != dataclasses.replace(graph, classes=("a", "b", "c"))
    assert graph != "a graph"


@given(graphs(), st.randoms(use_true_random=False))
def test_nodes_come_in_topological_order_however_they_are_given(graph: Graph, order: random.Random):
    nodes, edges = list(graph.nodes), list(graph.edges)
    order.shuffle(nodes)
    order.shuffle(edges)
    shuffled = dataclasses.replace(graph, nodes=tuple(nodes), edges=tuple(edges))
    position = {node.name: index for index, node in enumerate(shuffled.nodes)}
    assert all(position[edge.src] < position[edge.dst] for edge in shuffled.edges if not edge.delay)
    assert shuffled.types == graph.types
    assert dataclasses.replace(shuffled) == shuffled


def test_every_random_graph_has_a_type_for_every_output():
    graph = build(Recipe())
    assert set(graph.types) == {(node.name, port) for node in graph.nodes for port in node.OUTPUTS}


# Types --------------------------------------------------------------------------------------------------


def test_types_of_a_halting_network():
    graph = build(Recipe(halting="raster", stem="sum", time_steps=3))
    stem, once, step, end = Phase.STEM, Phase.ONCE, Phase.STEP, Phase.END
    expected = {
        ("input", "y"): ValueType(Kind.CURRENT, (2, 4, 6), once),
        ("stem.lif0", "s"): ValueType(Kind.SPIKE, (3, 4, 6), stem, 1),
        ("stem.integrate", "y"): ValueType(Kind.GRADED, (3, 4, 6), once, 3),
        ("stem.pool", "y"): ValueType(Kind.SPIKE, (6, 2, 3), once, 1),
        ("stem.add", "y"): ValueType(Kind.GRADED, (6, 2, 3), once, 2),
        ("stem.tokens", "y"): ValueType(Kind.GRADED, (6, 6), once, 2),
        ("blocks.0.gate", "y"): ValueType(Kind.GRADED, (6, 6), step, 2),
        ("blocks.0.q", "y"): ValueType(Kind.CURRENT, (6, 6), step),
        ("blocks.0.attn", "y"): ValueType(Kind.CURRENT, (6, 6), step, 6 * 3),
        ("blocks.0.add0", "y"): ValueType(Kind.GRADED, (6, 6), step, 3),
        ("blocks.1.add1", "y"): ValueType(Kind.GRADED, (6, 6), step, 6),
        ("score0", "h"): ValueType(Kind.SCORE, (6,), step),
        ("halt0", "alive"): ValueType(Kind.MASK, (6,), step, 1),
        ("halt0", "total"): ValueType(Kind.MEMBRANE, (6,), step),
        ("readout", "y"): ValueType(Kind.CURRENT, (6,), end),
        ("head", "y"): ValueType(Kind.CURRENT, (3,), end),
    }
    assert {key: graph.types[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("stem", "kind", "bound"),
    [
        ("max", Kind.SPIKE, 1),
        ("sum", Kind.GRADED, 3),
        ("mean", Kind.CURRENT, None),
        ("late-sum", Kind.GRADED, 6),
    ],
)
def test_integrating_spikes(stem: str, kind: Kind, bound: int | None):
    value = build(Recipe(stem=stem, time_steps=3)).types["stem.integrate", "y"]
    assert (value.kind, value.bound, value.phase) == (kind, bound, Phase.ONCE)


def test_column_sum_and_membrane_residual():
    graph = build(Recipe(sdsa=True, membrane=True, halting="off"))
    assert graph.types["blocks.0.columns", "y"] == ValueType(Kind.GRADED, (6,), Phase.STEP, 6)
    assert graph.types["blocks.0.select", "y"].kind is Kind.SPIKE
    assert graph.types["blocks.0.add1", "y"] == ValueType(Kind.CURRENT, (6, 6), Phase.STEP)


def test_neutral_elements():
    assert (neutral("total"), neutral("alive"), neutral("alive2"), neutral("mask")) == (0.0, 1.0, 1.0, 1.0)


# Invalid graphs -----------------------------------------------------------------------------------------

SCORED = {"phase": Phase.STEP, "scope": "block0"}
INVALID: dict[str, tuple[Callable[[Graph], object], str, str]] = {
    # attributes
    "stage": (lambda g: dataclasses.replace(g, stage="traced"), "graph", "stage is 'traced'"),
    "time steps": (lambda g: dataclasses.replace(g, time_steps=0), "graph", "time_steps is 0"),
    "bool steps": (lambda g: dataclasses.replace(g, time_steps=True), "graph", "time_steps is True"),
    "no classes": (lambda g: dataclasses.replace(g, classes=()), "graph", "classes are ()"),
    "std 0": (
        lambda g: dataclasses.replace(g, preprocessing=Preprocessing((0.0, 0.0), (1.0, 0.0))),
        "graph", "std is",
    ),
    "mean NaN": (
        lambda g: dataclasses.replace(g, preprocessing=Preprocessing((0.0, np.nan), (1.0, 1.0))),
        "graph", "mean is",
    ),
    "text for a number": (lambda g: with_node(g, "stem.conv0", kernel="3"), "stem.conv0", "kernel is '3'"),
    "numpy for a number": (lambda g: with_node(g, "halt0", epsilon=np.float64(0)), "halt0", "epsilon is"),
    "text for a phase": (lambda g: with_node(g, "score0", phase="step"), "score0", "phase is 'step'"),
    "unknown choice": (lambda g: with_node(g, "halt0", mode="always"), "halt0", "mode is 'always'"),
    "stride 0": (lambda g: with_node(g, "stem.conv0", stride=0), "stem.conv0", "stride is 0"),
    "groups": (
        lambda g: with_node(g, "stem.conv0", groups=2),
        "stem.conv0", "2 groups do not divide out_channels, which is 3",
    ),
    "padding": (
        lambda g: with_node(g, "stem.conv0", padding=3),
        "stem.conv0", "padding 3 reaches the kernel 3",
    ),
    "padding of a side": (
        lambda g: with_node(g, "stem.conv0", kernel=(3, 2), padding=(0, 2)),
        "stem.conv0", "padding (0, 2) reaches the kernel (3, 2)",
    ),
    "a side of 0": (lambda g: with_node(g, "stem.pool", stride=(2, 0)), "stem.pool", "stride is (2, 0)"),
    "three sides": (
        lambda g: with_node(g, "stem.conv0", kernel=(3, 3, 3)),
        "stem.conv0", "kernel is (3, 3, 3)",
    ),
    "epsilon 1": (lambda g: with_node(g, "halt0", epsilon=1.0), "halt0", "epsilon is 1.0"),
    "epsilon below 0": (lambda g: with_node(g, "halt0", epsilon=-0.1), "halt0", "epsilon is -0.1"),
    "alpha": (lambda g: with_node(g, "score0", alpha=np.inf), "score0", "alpha is inf"),
    "tau": (lambda g: with_node(g, "stem.lif0", tau=0.5), "stem.lif0", "tau is 0.5"),
    "infinite tau": (lambda g: with_node(g, "stem.lif0", tau=math.inf), "stem.lif0", "tau is infinite"),
    "reset": (lambda g: with_node(g, "stem.lif0", reset="soft"), "stem.lif0", "reset is 'soft'"),
    "threshold": (lambda g: with_node(g, "stem.lif0", threshold=0.0), "stem.lif0", "threshold is 0.0"),
    "eps": (lambda g: with_node(g, "stem.bn0", eps=0.0), "stem.bn0", "eps is 0.0"),
    "scale": (lambda g: with_node(g, "blocks.0.attn", scale=-1.0), "blocks.0.attn", "scale is -1.0"),
    "input shape": (lambda g: with_node(g, "input", shape=(2, 24)), "input", "shape is (2, 24)"),
    "delay 2": (lambda g: rewired(g, "halt0", "alive", delay=2), "halt1:alive -> halt0:alive", "delay is 2"),
    # names and wiring
    "name twice": (lambda g: with_node(g, "halt0", name="halt1"), "halt1", "2 nodes have this name"),
    "bad name": (lambda g: with_node(g, "output", name="the output"), "'the output'", "is no node name"),
    "bad scope": (lambda g: with_node(g, "output", scope=""), "output", "scope '' is no name"),
    "class twice": (
        lambda g: dataclasses.replace(g, classes=("a", "a", "b")),
        "graph", "classes occur twice: a",
    ),
    "no input": (lambda g: dataclasses.replace(g, nodes=g.nodes[1:]), "graph", "has 0 Input nodes"),
    "two outputs": (
        lambda g: plus(g, nodes=(dataclasses.replace(g.output, name="more"),)), "graph", "has 2 Output nodes"
    ),
    "unknown source": (
        lambda g: rewired(g, "head", "x", src="ghost"), "ghost:y -> head:x", "there is no node ghost"
    ),
    "unknown destination": (
        lambda g: plus(g, Edge("head", "y", "ghost", "x")), "head:y -> ghost:x", "there is no node ghost"
    ),
    "unknown output": (
        lambda g: rewired(g, "head", "x", src_port="z"),
        "readout:z -> head:x", "no output 'z'",
    ),
    "unknown input": (
        lambda g: plus(g, Edge("input", "y", "head", "w")),
        "input:y -> head:w", "no input 'w'",
    ),
    "port twice": (lambda g: plus(g, Edge("input", "y", "head", "x")), "head:x", "2 edges end here"),
    "open port": (lambda g: without(g, "blocks.0.attn", "k"), "blocks.0.attn:k", "is not connected"),
    "open readout": (lambda g: without(g, "readout", "z1"), "readout:z1", "is not connected"),
    "unused": (
        lambda g: plus(
            g, Edge("blocks.0.add1", "y", "idle", "a"), Edge("blocks.0.add1", "y", "idle", "b"),
            nodes=(Add(name="idle", **SCORED),),
        ), "idle", "nothing uses its output",
    ),
    # order, phases, stage
    "cycle": (
        lambda g: rewired(g, "blocks.0.gate", "x", src="blocks.1.add1", src_port="y"),
        " -> ", "is a cycle",
    ),
    "undelayed feedback": (
        lambda g: rewired(g, "halt0", "total", delay=0), "halt0 -> halt1 -> halt0", "is a cycle"
    ),
    "node in a phase it never runs in": (
        lambda g: with_node(g, "score0", phase=Phase.END),
        "score0", "is in phase end",
    ),
    "step to once": (
        lambda g: with_node(g, "blocks.0.fc1", phase=Phase.ONCE),
        "blocks.0.add0:y -> blocks.0.fc1:x", "goes from phase",
    ),
    "step to end": (
        lambda g: rewired(g, "head", "x", src="blocks.1.add1"),
        "blocks.1.add1:y -> head:x", "goes from phase step to end",
    ),
    "once to readout": (
        lambda g: rewired(g, "readout", "z0", src="stem.tokens"),
        "stem.tokens:y -> readout:z0", "goes from phase once",
    ),
    "delay outside the steps": (
        lambda g: rewired(g, "stem.lif0", "x", delay=1),
        "stem.bn0:y -> stem.lif0:x", "is delayed from once to once",
    ),
    "delayed value": (
        lambda g: rewired(g, "blocks.0.fc1", "x", delay=1), "blocks.0.add0:y -> blocks.0.fc1:x", "is delayed"
    ),
    "batch norm in folded": (
        lambda g: dataclasses.replace(g, stage=Stage.FOLDED), "stem.bn0", "BatchNorm in a folded graph"
    ),
    # tensors
    "missing tensor": (
        lambda g: with_tensor(g, "head/bias", None),
        "head/bias", "the tensor (3,) is missing",
    ),
    "extra tensor": (
        lambda g: with_tensor(g, "head/gamma", np.ones(3)),
        "head/gamma", "no node has this tensor",
    ),
    "tensor shape": (
        lambda g: with_tensor(g, "head/weight", np.ones((6, 3))),
        "head/weight", "has shape (6, 3), its node says (3, 6)",
    ),
    "tensor dtype": (lambda g: with_tensor(g, "head/bias", np.ones(3, int)), "head/bias", "is int64"),
    "half precision": (
        lambda g: with_tensor(g, "head/bias", np.ones(3, np.float16)),
        "head/bias", "is float16",
    ),
    "byte order": (lambda g: with_tensor(g, "head/bias", np.ones(3, ">f8")), "head/bias", "is >f8"),
    "NaN": (
        lambda g: with_tensor(g, "head/bias", np.array([0, np.nan, np.inf])),
        "head/bias", "2 of 3 values are NaN or infinite",
    ),
    "negative variance": (
        lambda g: with_tensor(g, "stem.bn0/var", np.array([1.0, -2.0, 1.0])),
        "stem.bn0/var", "a variance is -2",
    ),
    # types
    "channels": (lambda g: with_node(g, "input", shape=(3, 4, 6)), "stem.conv0:x", "number of channels is 3"),
    "preprocessing channels": (
        lambda g: dataclasses.replace(g, preprocessing=Preprocessing((0.0,), (1.0, 1.0))),
        "input", "mean has 1 channels",
    ),
    "features": (
        lambda g: with_node(g, "blocks.0.fc1", in_features=5),
        "blocks.0.fc1:x", "number of features is 6, in_features is 5",
    ),
    "norm features": (
        lambda g: with_node(g, "stem.bn0", features=4),
        "stem.bn0:x", "features is 3, features is 4",
    ),
    "map for tokens": (
        lambda g: rewired(g, "blocks.0.gate", "x", src="stem.add"), "blocks.0.gate:x", "has shape (6, 2, 3)"
    ),
    "small map": (lambda g: with_node(g, "stem.conv0", kernel=9), "stem.conv0:x", "has shape (2, 4, 6)"),
    "pool of graded": (
        lambda g: rewired(g, "stem.side_lif", "x", src="input", src_port="y"), "stem.add:b", "the shape is"
    ),
    "current for spikes": (
        lambda g: rewired(g, "blocks.0.attn", "k", src="blocks.0.k", src_port="y"),
        "blocks.0.attn:k", "is current(6, 6)",
    ),
    "heads": (
        lambda g: with_node(g, "blocks.0.attn", heads=4),
        "blocks.0.attn", "4 heads do not divide 6 channels",
    ),
    "mask for a value": (
        lambda g: rewired(g, "blocks.1.gate", "x", src="halt0", src_port="alive"),
        "blocks.1.gate:x", "is mask(6,) <=1",
    ),
    "value for a mask": (
        lambda g: rewired(g, "blocks.1.gate", "mask", src="halt0", src_port="p"),
        "blocks.1.gate:mask", "is score(6,)",
    ),
    "total for alive": (
        lambda g: rewired(g, "blocks.1.q", "alive", src_port="total"), "blocks.1.q:alive", "is membrane(6,)"
    ),
    "logits": (lambda g: dataclasses.replace(g, classes=("a", "b")), "output:x", "the number of logits is 3"),
    # halting
    "two modes": (
        lambda g: with_node(g, "halt1", mode="block"),
        "halt1", "mode block, epsilon 0.05; halt0: raster, 0.05",
    ),
    "two epsilons": (lambda g: with_node(g, "halt1", epsilon=0.5), "halt1", "epsilon 0.5; halt0: raster"),
    "last block": (lambda g: with_node(g, "halt0", last_block=True), "halt0", "last_block is True"),
    "no last block": (lambda g: with_node(g, "halt1", last_block=False), "halt1", "last_block is False"),
    "closed before the start": (lambda g: with_node(g, "halt0", closes=-1), "halt0", "closes is -1"),
    "groups of other tokens": (
        lambda g: with_node(g, "score0", groups=(0, 1)),
        "score0:z", "the number of tokens is 6, that of groups is 2",
    ),
    "a group beyond": (
        lambda g: with_node(g, "score0", groups=(0, 0, 0, 0, 0, 6)),
        "score0", "a group has the number 6, of 6 tokens",
    ),
    "broken chain": (lambda g: without(g, "halt1", "total"), "halt1:total", "is left open"),
    "raster starts anew": (lambda g: without(g, "halt0", "alive"), "halt0:alive", "is left open"),
    "chain over a step": (
        lambda g: rewired(g, "halt1", "total", delay=1),
        "halt1:total", "is connected to halt0:total delayed by a step",
    ),
    "readout lacks a weight": (
        lambda g: without(g, "readout", "p0"),
        "readout:p0", "is left open with readout mean-field",
    ),
    "readout lacks a block": (lambda g: without(g, "readout", "z0"), "readout:z0", "is left open"),
    "swapped values": (
        lambda g: rewired(g, "readout", "z0", src="blocks.0.add0"),
        "readout:z0",
        "is connected to blocks.0.add0:y",
    ),
    "a weight for a score": (scored_by_a_weight, "halt1:score", "comes from halt0, a HaltAccumulate"),
    "swapped weights": (
        lambda g: rewired(g, "readout", "p0", src="halt1"), "readout:p0", "is connected to halt1:p"
    ),
    "mask at a weighted readout": (
        lambda g: plus(g, Edge("halt0", "alive", "readout", "alive1")),
        "readout:alive1", "is connected to halt0:alive with",
    ),
    "normalised": (lambda g: with_node(g, "readout", normalise=True), "readout", "normalise is True"),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID)
def test_invalid_graphs_cannot_be_made(case: str):
    make, where, what = INVALID[case]
    graph = build(Recipe(halting="raster", readout="mean-field"))
    with pytest.raises(IRError) as caught:
        make(graph)
    found = [problem for problem in caught.value.problems if where in problem.where and what in problem.what]
    assert found, caught.value
    assert found[0].remedy


OTHER_INVALID: dict[str, tuple[Recipe, Callable[[Graph], object], str, str]] = {
    "accumulators for each block": (
        Recipe(halting="time"), lambda g: with_node(g, "halt0", mode="block"),
        "graph", "1 HaltAccumulate nodes in mode block",
    ),
    "rectangular has no feedback": (
        Recipe(halting="rectangular"), lambda g: plus(g, Edge("halt1", "alive", "halt0", "alive", 1)),
        "halt0:alive",
        "is connected to halt1:alive delayed",
    ),
    "rectangular must normalise": (
        Recipe(halting="rectangular"), lambda g: with_node(g, "readout", normalise=False),
        "readout", "normalise is False",
    ),
    "another block's mask at the readout": (
        Recipe(readout="rate", blocks=3), lambda g: rewired(g, "readout", "alive2", src="halt0"),
        "readout:alive2",
        "is connected to halt0:alive",
    ),
    "mask of this step at the readout": (
        Recipe(readout="last-state"), lambda g: rewired(g, "readout", "alive0", delay=0), "readout:alive0",
        "is connected to halt1:alive",
    ),
    "off reads the last block": (
        Recipe(halting="off"), lambda g: plus(g, Edge("blocks.0.add1", "y", "readout", "z0")), "readout:z0",
        "is connected to blocks.0.add1:y with readout mean-field and halting off",
    ),
    "stem value without Integrate": (
        Recipe(stem="max"), lambda g: rewired(g, "stem.conv1", "x", src="stem.lif0", src_port="s"),
        "stem.lif0:s -> stem.conv1:x", "goes from phase stem to once",
    ),
    "Integrate takes no steps": (
        Recipe(stem="max"),
        lambda g: with_node(with_node(g, "stem.integrate", phase=Phase.STEP), "stem.conv1", phase=Phase.STEP),
        "stem.integrate", "Integrate is in phase step",
    ),
    "learned weights of other steps": (
        Recipe(stem="learned"), lambda g: dataclasses.replace(g, time_steps=4), "stem.integrate/weights",
        "has shape (3,), its node says (4,)",
    ),
    "float32 in a folded graph": (
        Recipe(norm=False), lambda g: with_tensor(g, "head/bias", np.ones(3, np.float32)), "head/bias",
        "is float32 in a folded graph",
    ),
    "channel mask": (
        Recipe(sdsa=True), lambda g: rewired(g, "blocks.0.select", "mask", src="blocks.0.q_lif"),
        "blocks.0.select:mask",
        "has shape (6, 6)",
    ),
    "head mask of counts": (
        Recipe(qk=True), lambda g: rewired(g, "blocks.0.head_gate", "mask", src="stem.tokens", src_port="y"),
        "blocks.0.head_gate:mask", "is graded",
    ),
    "gate of spikes by a current": (
        Recipe(iand=True),
        lambda g: rewired(g, "blocks.0.add0", "b", src="blocks.0.proj_bn", src_port="y"),
        "blocks.0.add0:b", "is current",
    ),
    "heads of a gate": (
        Recipe(qk=True), lambda g: with_node(g, "blocks.0.head_sum", heads=4), "blocks.0.head_gate",
        "4 heads do not divide 6 channels",
    ),
    "mask of a map": (
        Recipe(stem="sps"), lambda g: plus(g, Edge("halt1", "alive", "stem.lif0", "alive", 1)),
        "stem.lif0:alive",
        "has shape (6,) beside x (3, 4, 6)",
    ),
    "pool of real values": (
        Recipe(), lambda g: rewired(g, "stem.pool", "x", src="stem.bn1", src_port="y"),
        "stem.pool:x", "is current",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_INVALID)
def test_invalid_graphs_of_other_kinds_cannot_be_made(case: str):
    recipe, make, where, what = OTHER_INVALID[case]
    graph = build(recipe)
    with pytest.raises(IRError) as caught:
        make(graph)
    assert [p for p in caught.value.problems if where in p.where and what in p.what], caught.value


def test_all_problems_of_a_layer_come_at_once():
    graph = build(Recipe())
    tensors = dict(graph.tensors) | {"head/weight": np.full((3, 6), np.nan), "ghost/weight": np.ones(2)}
    del tensors["head/bias"]
    with pytest.raises(IRError) as caught:
        dataclasses.replace(with_node(graph, "blocks.0.attn", heads=3), stage=Stage.FOLDED, tensors=tensors)
    places = {problem.where for problem in caught.value.problems}
    assert places > {"head/weight", "head/bias", "ghost/weight", "stem.bn0", "blocks.1.fc2_bn"}
    message = str(caught.value)
    assert message.startswith(f"{len(caught.value.problems)} problems: ") and "\n" not in message
    assert all(f"{p.where}: {p.what}; {p.remedy}" in message for p in caught.value.problems)


def test_one_problem_reads_as_one_line_and_survives_pickle():
    with pytest.raises(InputError) as caught:
        with_tensor(build(Recipe()), "head/bias", None)
    assert str(caught.value) == "head/bias: the tensor (3,) is missing; give it in `tensors`"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.problems) == (str(caught.value), caught.value.problems)


def test_foreign_nodes_are_refused():
    class Dropout(Add):
        pass

    with pytest.raises(IRError, match="is no node of the IR; the nodes are Add, BatchNorm, Conv2d"):
        plus(build(Recipe()), nodes=(Dropout(name="drop", **SCORED),))


def test_ports_in_the_order_they_print():
    node = HaltAccumulate(name="h", mode="block", epsilon=0.1, last_block=True, **SCORED)
    assert (node.required_inputs, node.optional_inputs) == (("score",), ("alive", "total"))
    assert build(Recipe()).readout.input_ports == ("z1", "z0", "alive0", "alive1", "p0", "p1")
