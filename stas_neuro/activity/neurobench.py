"""NeuroBench's complexity metrics of a run, by the names that NeuroBench gives them.

Source of the definitions: Yik et al., "The neurobench framework for benchmarking neuromorphic computing
algorithms and systems", Nature Communications 16, 1545 (2025), and the code of neurobench 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stas_neuro.activity.layers import layers_of
from stas_neuro.activity.record import Activity, Layer
from stas_neuro.ir import FixedSynaptic, Graph, Stage, Synaptic


def neurobench_metrics(graph: Graph, activity: Activity, *, value_bytes: int = 8) -> dict[str, Any] | None:
    """Return NeuroBench's complexity metrics of a run of `graph`, as plain data.

    Parameters
    ----------
    graph : Graph
        The network that ran.
    activity : Activity
        The record of the run, with or without cores, of at least one image.
    value_bytes : int
        Bytes of a parameter of a float network: 8 for a run in float64, 4 for one in float32.

    Returns
    -------
    dict, or None if the record has layers that are not nodes of `graph` (stock Lava processes)
        - "Footprint": bytes of all parameters. In an integer program a weight has the bits of its layer, and
          every other parameter those of the array that stores it.
        - "ConnectionSparsity": share of the weights of Conv2d and Linear that are 0.
        - "ActivationSparsity": share of the outputs of LIF neurons, over all steps and images, that are 0.
        - "SynapticOperations": per image, of Conv2d and Linear alone. "Effective_MACs" are products with real
          values (pixels, means), "Effective_ACs" additions of weights for spikes, "Dense" the number of both
          if no input and no token were 0.
        - "AttentionOperations": per image, "Effective_ACs" of products of spikes with spikes. NeuroBench
          has no metric for them, and they are not part of "SynapticOperations".
    """
    names = {node.name for node in graph.nodes}
    if not names.issuperset(_node_of(layer) for layer in activity.layers):
        return None
    weights = [graph.tensor(node, "weight") for node in graph.nodes if isinstance(node, Synaptic)]
    zeros, total = sum(int((each == 0).sum()) for each in weights), sum(each.size for each in weights)
    attention = {node.name for node in graph.nodes if node.traits.multiplies_spikes}
    synaptic = {node.name for node in graph.nodes if isinstance(node, Synaptic)}
    return {
        "Footprint": _footprint(graph, value_bytes),
        "ConnectionSparsity": zeros / total if total else 0.0,
        "ActivationSparsity": _activation_sparsity(activity),
        "SynapticOperations": {
            "Effective_MACs": _per_image(activity, synaptic, "macs")
            + _per_image(activity, synaptic, "cpu_operations"),  # by a processor outside the cores
            "Effective_ACs": _per_image(activity, synaptic, "synops"),
            "Dense": _dense(graph),
        },
        "AttentionOperations": {"Effective_ACs": _per_image(activity, attention, "synops")},
    }


def _footprint(graph: Graph, value_bytes: int) -> int:
    if graph.stage != Stage.QUANTISED:
        return sum(tensor.size for tensor in graph.tensors.values()) * value_bytes
    bits = 0
    for name, tensor in graph.tensors.items():
        owner, _, param = name.rpartition("/")
        node = graph.node(owner)
        if isinstance(node, FixedSynaptic) and param == "weight":
            bits += tensor.size * node.weight_bits
        else:
            bits += tensor.size * tensor.itemsize * 8
    return -(-bits // 8)


def _activation_sparsity(activity: Activity) -> float:
    rows = [row for row, layer in enumerate(activity.layers) if layer.kind == "LIF"]
    outputs = sum(
        int(activity.sums(kind)[rows].sum())
        for kind in ("updates_active", "updates_inactive", "updates_gated")
    )
    return 1 - int(activity.sums("spikes_out")[rows].sum()) / outputs if outputs else 0.0


def _per_image(activity: Activity, nodes: set[str], kind: str) -> float:
    rows = [row for row, layer in enumerate(activity.layers) if _node_of(layer) in nodes]
    return int(activity.sums(kind)[rows].sum()) / activity.all_images


def _node_of(layer: Layer) -> str:
    return layer.of or layer.name


def _dense(graph: Graph) -> float:
    """Count the synapses of all Conv2d and Linear, each in every step in which its input is supplied."""
    times = {"once": 1, "stem": graph.time_steps, "step": graph.time_steps, "end": 1}
    phases = {layer.name: layer.phase for layer in layers_of(graph)}
    operations = 0
    for node in graph.nodes:
        if isinstance(node, Synaptic):
            leaving = graph.types[node.name, "y"].shape
            taps = node.taps(graph.source_type(graph.inputs(node)["x"]).shape, leaving)
            features = leaving[0] if len(leaving) == 3 else leaving[-1]
            operations += int(np.sum(taps)) * features * times[phases[node.name]]
    return float(operations)
