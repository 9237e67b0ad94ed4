"""Windows with taps that are apart, and convolutions with a bias for each position."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.ir_random import Recipe, build

from stas_neuro.ir import Conv2d, Graph, IRError, MaxPool, Phase
from stas_neuro.ir.text import parse_graph, print_graph
from stas_neuro.passes import FoldBatchNorm, Quantise
from stas_neuro.reference.ops import OPERATORS
from stas_neuro.reference.ops.base import NodeContext

CONTEXT = NodeContext({}, steps=1, skip=True)


def test_dilated_windows_are_those_of_torch() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 4, 7, 9)), rng.normal(size=(6, 2, 3, 2))
    bias = rng.normal(size=(6, 4, 7))
    window = {"kernel": (3, 2), "stride": (2, 1), "padding": (2, 1), "dilation": (2, 4)}
    node = Conv2d(
        name="conv", phase=Phase.STEP, scope="s", in_channels=4, out_channels=6, **window, bias=True,
        groups=2, bias_map=(4, 7),
    )  # fmt: skip
    context = dataclasses.replace(CONTEXT, tensors={"weight": weight, "bias": bias})
    y = OPERATORS[Conv2d](node, {"x": x}, context)["y"]
    given = map(torch.from_numpy, (x, weight))
    theirs = torch.conv2d(*given, None, (2, 1), (2, 1), (2, 4), 2).numpy() + bias
    np.testing.assert_allclose(y, theirs, atol=1e-12)
    ones = torch.ones(1, 2, 7, 9), torch.ones(1, 2, 3, 2)
    met = torch.conv2d(*ones, None, (2, 1), (2, 1), (2, 4)).flatten()
    np.testing.assert_array_equal(node.taps((4, 7, 9), (6, 4, 7)), met.numpy())
    pool = MaxPool(name="pool", phase=Phase.STEP, scope="s", kernel=2, stride=1, padding=1, dilation=3)
    pooled = torch.max_pool2d(torch.from_numpy(x), 2, 1, 1, 3).numpy()
    np.testing.assert_array_equal(OPERATORS[MaxPool](pool, {"x": x}, CONTEXT)["y"], pooled)


def with_first(graph: Graph, **changes: object) -> Graph:
    first = graph.of_type(Conv2d)[0]
    changed = dataclasses.replace(first, **changes)  # type: ignore[arg-type]
    nodes = tuple(changed if node is first else node for node in graph.nodes)
    return dataclasses.replace(graph, nodes=nodes)


def test_a_map_of_biases_has_the_size_of_the_output() -> None:
    graph = build(Recipe(biases=True, halting="off"))
    with pytest.raises(IRError, match=r"the size of the map of biases is \(1, 2\), that of the output is"):
        with_first(graph, bias_map=(1, 2))
    with pytest.raises(IRError, match=r"bias_map is \(4,\); give a layer with biases the height and width"):
        with_first(graph, bias_map=(4,))
    with pytest.raises(IRError, match=r"bias_map is \(4, 6\) without biases"):
        with_first(build(Recipe(bias=False, halting="off", norm=False)), bias_map=(4, 6))


def test_texts_and_integers_keep_both() -> None:
    graph = build(Recipe(biases=True, dilated=True, halting="off"))
    first = graph.of_type(Conv2d)[0]
    assert first.bias_map and first.sides.dilation == (2, 1)
    assert print_graph(parse_graph(print_graph(graph), graph.tensors)) == print_graph(graph)
    quantised = Quantise()(FoldBatchNorm()(graph)).of_type(Conv2d)[0]
    assert (quantised.bias_map, quantised.dilation) == (first.bias_map, first.dilation)
    plain = build(Recipe(halting="off"))
    assert "dilation" not in print_graph(plain) and "bias_map" not in print_graph(plain)
