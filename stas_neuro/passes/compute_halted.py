"""Gating `none`: halted tokens are computed like live ones, and what comes of it is thrown away."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stas_neuro.analysis import halting_mode, lateness
from stas_neuro.errors import InputError
from stas_neuro.ir import (
    Edge,
    Gate,
    Graph,
    Node,
)


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
        if halting_mode(graph) == "block":
            raise InputError(
                "gating is none, and with halting block a token comes back in the next model step, with "
                "other membranes if it is computed once it has halted",
                "use the gating silent, or compile with another halting (--accumulate)",
            )
        if late := lateness(graph):
            raise InputError(
                f"gating is none, and halting decides {late} hardware steps late (pipelined-stale): blocks "
                "whose halted tokens are computed on do not wait for decisions",
                "use the gating silent, or a bundle compiled without --schedule pipelined-stale",
            )
        gates = {node.name: graph.inputs(node)["x"] for node in graph.of_type(Gate) if _is_token_gate(node)}
        edges: list[Edge] = []
        added: list[Node] = []
        for edge in graph.edges:
            node = graph.node(edge.dst)
            masks = edge.dst_port == "alive" and node.traits.masks_tokens
            if masks or node.name in gates:
                continue
            source = edge
            while source.src in gates:
                source = gates[source.src]
            moved = replace(edge, src=source.src, src_port=source.src_port, delay=source.delay)
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
        kept = [node for node in graph.nodes if node.name not in gates]
        return replace(graph, nodes=(*kept, *added), edges=tuple(edges))


def _is_token_gate(node: Node) -> bool:
    return isinstance(node, Gate) and node.axis == "token"


def _mixes(node: Node, edge: Edge) -> bool:
    return edge.dst_port in node.traits.mixes_tokens


def _mask_of(graph: Graph, name: str) -> Edge | None:
    """Find the mask of the visits in which a node computes; None where it has none."""
    inputs = graph.inputs(name)
    port = "mask" if _is_token_gate(graph.node(name)) else "alive"
    if port in inputs:
        return inputs[port]
    found = (_mask_of(graph, edge.src) for edge in inputs.values() if not edge.delay)
    return next((mask for mask in found if mask is not None), None)
