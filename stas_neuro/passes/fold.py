"""Folds every BatchNorm into the Conv2d or Linear before it: traced -> folded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from stas_neuro.ir import Array, BatchNorm, Edge, Graph, IRError, Problem, Stage, Synaptic


@dataclass(frozen=True)
class FoldBatchNorm:
    """Replace Conv2d/Linear + BatchNorm by one biased Conv2d/Linear that keeps the former's name.

    With `s = gamma / sqrt(var + eps)`: `weight' = weight * s`, `bias' = (bias - mean) * s + beta`, in float64
    whatever the dtype of the traced graph; all tensors of the folded graph are float64. A BatchNorm's `alive`
    moves onto the Linear. This needs what the halting blocks keep: x of a halted token is 0.

    Raises
    ------
    IRError
        For each BatchNorm that does not directly and alone follow a Conv2d or Linear.
    """

    def __call__(self, graph: Graph) -> Graph:
        """Return the folded graph."""
        norms = {norm.name: norm for norm in graph.of_type(BatchNorm)}
        targets = {name: graph.node(graph.inputs(norm)["x"].src) for name, norm in norms.items()}
        if problems := [p for norm in norms.values() for p in _obstacles(graph, norm)]:
            raise IRError(*problems)
        folded = {targets[name].name: norm for name, norm in norms.items()}
        tensors = {
            key: value.astype(np.float64)
            for key, value in graph.tensors.items()
            if key.rpartition("/")[0] not in norms.keys() | folded.keys()
        }
        for target, norm in folded.items():
            weight, bias = _folded(graph, target, norm)
            tensors |= {f"{target}/weight": weight, f"{target}/bias": bias}
        return dataclasses.replace(
            graph,
            stage=Stage.FOLDED,
            nodes=tuple(
                dataclasses.replace(node, bias=True)  # type: ignore[call-arg]
                if isinstance(node, Synaptic) and node.name in folded
                else node
                for node in graph.nodes
                if node.name not in norms
            ),
            edges=_rewired(graph, {name: target.name for name, target in targets.items()}),
            tensors=tensors,
        )


def _obstacles(graph: Graph, norm: BatchNorm) -> list[Problem]:
    """Say why `norm` cannot be folded, if so."""
    edges = graph.inputs(norm)
    source = graph.node(edges["x"].src)
    if not isinstance(source, Synaptic):
        what = f"BatchNorm follows {source.name}, a {type(source).__name__}"
        return [Problem(norm.name, what, "place it directly after a Conv2d or Linear")]
    others = [edge.dst for edge in graph.consumers(source) if edge.dst != norm.name]
    if others:
        what = f"BatchNorm shares the output of {source.name} with {', '.join(others)}"
        return [Problem(norm.name, what, "let the BatchNorm alone use it")]
    masks = [edges.get("alive"), graph.inputs(source).get("alive")]
    ends = [mask and (mask.src, mask.src_port, mask.delay) for mask in masks]
    if ends[1] is not None and ends[0] != ends[1]:
        what = f"BatchNorm and {source.name} take different alive masks"
        return [Problem(norm.name, what, "connect both to the mask of their block")]
    return []


def _folded(graph: Graph, target: str, norm: BatchNorm) -> tuple[Array, Array]:
    """Return weight and bias in float64."""
    gamma, beta, mean, var = (
        graph.tensor(norm, param).astype(np.float64) for param in ("gamma", "beta", "mean", "var")
    )
    scale = gamma / np.sqrt(var + norm.eps)
    weight = graph.tensor(target, "weight").astype(np.float64)
    bias = graph.tensors.get(f"{target}/bias", np.zeros(norm.features)).astype(np.float64)
    scale, mean, beta = (each.reshape(-1, *[1] * (bias.ndim - 1)) for each in (scale, mean, beta))
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * scale + beta


def _rewired(graph: Graph, targets: dict[str, str]) -> tuple[Edge, ...]:
    """Take each BatchNorm (the keys of `targets`) out; its alive edge goes to what precedes it."""
    edges: dict[tuple[str, str], Edge] = {}
    for edge in graph.edges:
        if edge.dst in targets and edge.dst_port == "x":
            continue
        moved = dataclasses.replace(
            edge, src=targets.get(edge.src, edge.src), dst=targets.get(edge.dst, edge.dst)
        )
        edges[moved.dst, moved.dst_port] = moved
    return tuple(edges.values())
