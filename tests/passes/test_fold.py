"""Folding BatchNorm changes no result, and what cannot be folded is refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, images_for, recipes

from stas_neuro.ir import BatchNorm, Conv2d, Edge, Graph, IRError, Linear, Phase, Stage
from stas_neuro.passes import FoldBatchNorm, PassError, run_passes
from stas_neuro.reference import run_reference


@settings(max_examples=60)
@given(recipes(norm=True), st.integers(0, 99))
def test_folded_equals_traced(recipe: Recipe, seed: int):
    graph = build(recipe)
    folded = FoldBatchNorm()(graph)
    images = images_for(graph, 2, seed)
    before, after = (run_reference(g, images, record_spikes=True) for g in (graph, folded))
    np.testing.assert_allclose(after.logits, before.logits, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(after.visits, before.visits)
    assert after.spikes.keys() == before.spikes.keys()
    for name in before.spikes:
        np.testing.assert_array_equal(after.spikes[name], before.spikes[name], err_msg=name)
    assert after.activity == before.activity


def test_what_folding_keeps_and_moves():
    graph = build(Recipe(bias=False, dtype="float32"))
    folded = FoldBatchNorm()(graph)
    assert folded.stage is Stage.FOLDED
    assert {node.name for node in folded.nodes} == {
        n.name for n in graph.nodes if not isinstance(n, BatchNorm)
    }
    assert "alive" not in graph.inputs("blocks.0.q")
    assert folded.inputs("blocks.0.q")["alive"] == Edge("halt1", "alive", "blocks.0.q", "alive", 1)
    assert folded.inputs("blocks.0.q_lif")["x"].src == "blocks.0.q"
    assert all(node.bias for cls in (Conv2d, Linear) for node in folded.of_type(cls))
    assert {tensor.dtype.name for tensor in folded.tensors.values()} == {"float64"}
    assert FoldBatchNorm()(folded) == folded


def test_folded_parameters():
    graph = build(Recipe())
    gamma, beta, mean, var = (graph.tensor("stem.bn0", p) for p in ("gamma", "beta", "mean", "var"))
    folded = FoldBatchNorm()(graph)
    for channel in range(3):
        scale = gamma[channel] / (var[channel] + 1e-5) ** 0.5
        bias = graph.tensor("stem.conv0", "bias")[channel]
        np.testing.assert_allclose(
            folded.tensor("stem.conv0", "weight")[channel],
            graph.tensor("stem.conv0", "weight")[channel] * scale,
        )
        np.testing.assert_allclose(
            folded.tensor("stem.conv0", "bias")[channel], (bias - mean[channel]) * scale + beta[channel]
        )


def norm_after_lif(graph: Graph) -> Graph:
    extra = BatchNorm(name="odd", phase=Phase.STEP, scope="block0", features=6, eps=1e-5)
    edges = [
        dataclasses.replace(edge, src="odd", src_port="y") if edge.src == "blocks.0.proj_lif" else edge
        for edge in graph.edges
    ]
    tensors = {f"odd/{param}": np.ones(6) for param in ("gamma", "beta", "mean", "var")}
    return dataclasses.replace(
        graph,
        nodes=(*graph.nodes, extra),
        edges=(*edges, Edge("blocks.0.proj_lif", "s", "odd", "x")),
        tensors=graph.tensors | tensors,
    )


def shared_output(graph: Graph) -> Graph:
    edges = [
        dataclasses.replace(edge, src="blocks.0.q", src_port="y")
        if (edge.dst, edge.dst_port) == ("blocks.0.k_lif", "x")
        else edge
        for edge in graph.edges
        if not edge.dst.startswith("blocks.0.k") or edge.dst == "blocks.0.k_lif"
    ]
    kept = {edge.dst for edge in edges} | {"input"}
    return dataclasses.replace(
        graph,
        nodes=tuple(node for node in graph.nodes if node.name in kept),
        edges=tuple(edges),
        tensors={key: value for key, value in graph.tensors.items() if key.split("/")[0] in kept},
    )


def mask_on_linear_only(graph: Graph) -> Graph:
    edges = tuple(edge for edge in graph.edges if (edge.dst, edge.dst_port) != ("blocks.0.v_bn", "alive"))
    return dataclasses.replace(graph, edges=edges)


@pytest.mark.parametrize(
    ("spoil", "where", "what"),
    [
        (norm_after_lif, "odd", "BatchNorm follows blocks.0.proj_lif, a LIF"),
        (shared_output, "blocks.0.q_bn", "shares the output of blocks.0.q with blocks.0.k_lif"),
        (mask_on_linear_only, "blocks.0.v_bn", "BatchNorm and blocks.0.v take different alive masks"),
    ],
)
def test_what_cannot_be_folded_is_refused(spoil: Callable[[Graph], Graph], where: str, what: str):
    graph = spoil(build(Recipe(bias=True)))
    with pytest.raises(IRError) as caught:
        FoldBatchNorm()(graph)
    assert [problem.where for problem in caught.value.problems] == [where]
    assert what in caught.value.problems[0].what


@dataclasses.dataclass(frozen=True)
class Rename:
    name: str

    def __call__(self, graph: Graph) -> Graph:
        nodes = tuple(dataclasses.replace(node, name=self.name) for node in graph.nodes)
        return dataclasses.replace(graph, nodes=nodes)


def test_driver_names_the_pass_that_failed_and_those_before():
    graph = build(Recipe())
    with pytest.raises(PassError, match=r"pass Rename after FoldBatchNorm: .*blocks\.0\.q") as caught:
        run_passes(graph, [FoldBatchNorm(), Rename("blocks.0.q")])
    assert isinstance(caught.value.__cause__, IRError)
    assert run_passes(graph, [FoldBatchNorm(), FoldBatchNorm()]) == FoldBatchNorm()(graph)
    assert run_passes(graph, []) is graph
    with pytest.raises(PassError, match=r"^pass FoldBatchNorm: odd: BatchNorm follows"):
        run_passes(norm_after_lif(graph), [FoldBatchNorm()])
