"""Gating `none`: halted tokens are computed like live ones, and what comes of it is thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from stas_neuro.errors import InputError
from stas_neuro.ir import POLICIES, Edge, Gate, Graph, Node


@dataclass(frozen=True)
class ComputeHalted:
    """Take the masks off blocks, so that a halted token is computed on, and keep it from reaching others.

    Token gates before blocks and the `alive` of their layers and neurons go. Halted tokens still give no key
    and no value to attention, no score, and nothing to the readout: results are equal, the activity is that
    of a network in which halting saves nothing. Blocks then need not wait for decisions: stages can be fewer.

    A token's neurons differ from those of the gated network once it has halted. That is without effect only
    where it stays halted in a block once it has: not in mode block, where each model step starts anew. What
    has arrived at a late decision hangs on the stages, so that decisions can only be delayed afterwards.

    Raises
    ------
    InputError
        When the graph halts in mode block, or decides late.
    """

    def __call__(self, graph: Graph) -> Graph:
        """Return the rewritten graph, of the same stage."""
        if graph.accumulators and not POLICIES[graph.halting].for_good:
            raise InputError(
                f"gating is none, and with halting {graph.halting} a token comes back in the next model "
                "step, with other membranes if it is computed once it has halted",
                "use the gating silent, or compile with another halting (--accumulate)",
            )
        if graph.late:
            raise InputError(
                f"gating is none, and halting decides {graph.late} hardware steps late (pipelined-stale): "
                "blocks whose halted tokens are computed on do not wait for decisions",
                "use the gating silent, or a bundle compiled without --schedule pipelined-stale",
            )
        edges: list[Edge] = []
        added: list[Node] = []
        for edge, moved in unmasked(graph):
            node = graph.node(edge.dst)
            mask = _mask_of(graph, edge.src) if _mixes(node, edge) else None
            if mask is None:
                edges.append(moved)
                continue
            gate = Gate(
                name=f"{node.name}.{edge.dst_port}_gate", phase=node.phase, scope=node.scope, axis="token"
            )
            added.append(gate)
            edges += [
                replace(moved, dst=gate.name, dst_port="x"),
                replace(mask, dst=gate.name, dst_port="mask"),
                replace(edge, src=gate.name, src_port="y"),
            ]
        kept = [node for node in graph.nodes if not node.traits.gates_tokens]
        return replace(graph, nodes=(*kept, *added), edges=tuple(edges))


def unmasked(graph: Graph) -> Iterator[tuple[Edge, Edge]]:
    """Yield each edge that remains without the masks of blocks, and what it becomes without their gates."""
    gates = {node.name: graph.inputs(node)["x"] for node in graph.nodes if node.traits.gates_tokens}
    for edge in graph.edges:
        masks = edge.dst_port == "alive" and graph.node(edge.dst).traits.masks_tokens
        if masks or edge.dst in gates:
            continue
        source = edge
        while source.src in gates:
            source = gates[source.src]
        yield edge, replace(edge, src=source.src, src_port=source.src_port, delay=source.delay)


def _mixes(node: Node, edge: Edge) -> bool:
    return edge.dst_port in node.traits.mixes_tokens


def _mask_of(graph: Graph, name: str) -> Edge | None:
    """Find the mask of the visits in which a node computes; None where it has none."""
    inputs = graph.inputs(name)
    port = "mask" if graph.node(name).traits.gates_tokens else "alive"
    if port in inputs:
        return inputs[port]
    found = (_mask_of(graph, edge.src) for edge in inputs.values() if not edge.delay)
    return next((mask for mask in found if mask is not None), None)
