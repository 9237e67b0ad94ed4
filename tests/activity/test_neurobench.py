"""NeuroBench's metrics against counts made by torch, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.fixed_random import pixels_for
from support.ir_random import Recipe, build, images_for
from torch.nn.functional import conv2d

from stas_neuro.activity.neurobench import neurobench_metrics
from stas_neuro.chips import load_profile
from stas_neuro.exporters.lava.stock import lower_stock, run_stock
from stas_neuro.ir import LIF, Conv2d, Graph, Input, Linear
from stas_neuro.passes import FoldBatchNorm
from stas_neuro.passes.quantise import Quantise
from stas_neuro.placement import place
from stas_neuro.reference import run_reference

STEPS, IMAGES = 3, 2


def network(**choices: object) -> Graph:
    plain: dict[str, object] = {"time_steps": STEPS, "height": 4, "width": 4, "stem": "max"}
    return FoldBatchNorm()(build(Recipe(**plain | choices)))  # type: ignore[arg-type]


def dense_by_torch(graph: Graph) -> int:
    """Run every layer with weights on ones, as NeuroBench does, in each step that supplies its input."""
    times = {"once": 1, "stem": STEPS, "step": STEPS, "end": 1}
    total = 0
    for node in graph.nodes:
        if isinstance(node, Conv2d | Linear):
            x = torch.ones(graph.source_type(graph.inputs(node)["x"]).shape)
            weight = torch.ones(graph.tensor(node, "weight").shape)
            if isinstance(node, Conv2d):
                y = conv2d(x[None], weight, stride=node.stride, padding=node.padding)
            else:
                y = x @ weight.T
            from_image = isinstance(graph.node(graph.inputs(node)["x"].src), Input)
            # The image does not change: its layer is computed once, and supplied in every step of the stem.
            total += int(y.sum()) * (STEPS if from_image else times[node.phase.value])
    return total


@pytest.mark.parametrize("halting", ["off", "raster"])
def test_synaptic_operations_and_sparsity_are_those_counted_from_spikes(halting: str) -> None:
    graph = network(halting=halting)
    trace = run_reference(graph, images_for(graph, IMAGES), record_spikes=True)
    metrics = neurobench_metrics(graph, trace.activity)
    assert metrics is not None
    operations = metrics["SynapticOperations"]
    assert operations["Dense"] == dense_by_torch(graph)
    assert 0 < operations["Effective_ACs"] + operations["Effective_MACs"] <= operations["Dense"]
    fired = sum(int(spikes.sum()) for spikes in trace.spikes.values())
    outputs = sum(spikes.size for spikes in trace.spikes.values())
    assert set(trace.spikes) == {node.name for node in graph.of_type(LIF)}
    assert metrics["ActivationSparsity"] == pytest.approx(1 - fired / outputs, rel=1e-12)
    assert metrics["AttentionOperations"]["Effective_ACs"] > 0


def test_cores_change_no_metric() -> None:
    graph = network()
    images = images_for(graph, IMAGES)
    mapping = place(graph, load_profile("loihi2"), strategy="channel-major", groups=1)
    plain = neurobench_metrics(graph, run_reference(graph, images).activity)
    assert plain == neurobench_metrics(graph, run_reference(graph, images, mapping=mapping).activity)


def test_connection_sparsity_and_footprint() -> None:
    graph = network()
    activity = run_reference(graph, images_for(graph, 1)).activity
    values = sum(tensor.size for tensor in graph.tensors.values())
    for each, size in ((8, 8 * values), (4, 4 * values)):
        metrics = neurobench_metrics(graph, activity, value_bytes=each)
        assert metrics is not None and metrics["Footprint"] == size
    layer = graph.of_type(Linear)[0]
    sparse = dict(graph.tensors)
    sparse[f"{layer.name}/weight"] = np.zeros_like(sparse[f"{layer.name}/weight"])
    holes = sparse[f"{layer.name}/weight"].size
    weights = sum(tensor.size for name, tensor in graph.tensors.items() if name.endswith("/weight"))
    cut = Graph(**{name: getattr(graph, name) for name in FIELDS}, tensors=sparse)
    metrics = neurobench_metrics(cut, activity)
    assert metrics is not None and metrics["ConnectionSparsity"] == pytest.approx(holes / weights)


FIELDS = ("stage", "time_steps", "classes", "preprocessing", "nodes", "edges")


def test_stock_processes_have_none() -> None:
    graph = Quantise()(network(halting="off", stem="one-step"))
    images = pixels_for(graph, 1)
    assert neurobench_metrics(graph, run_stock(lower_stock(graph), images).activity) is None


def test_integers_have_the_bits_of_their_weights() -> None:
    folded = network()
    sizes = []
    for bits in (4, 8):
        graph = Quantise(bits=bits)(folded)
        activity = run_reference(graph, pixels_for(graph, 1)).activity
        metrics = neurobench_metrics(graph, activity)
        assert metrics is not None
        layers = metrics["SynapticOperations"]
        assert 0 < layers["Effective_ACs"] + layers["Effective_MACs"] <= layers["Dense"]
        sizes.append(metrics["Footprint"])
    weights = sum(tensor.size for name, tensor in folded.tensors.items() if name.endswith("/weight"))
    assert sizes[1] - sizes[0] == pytest.approx(weights / 2, abs=1)
