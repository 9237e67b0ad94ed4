"""``stas-export inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stas_neuro.bundle import load_bundle
from stas_neuro.cli.common import PATH, emit_json, emit_table, stas_command, summary
from stas_neuro.ir import Graph, Node
from stas_neuro.ir.text import print_graph


@stas_command(
    "stas-export inspect digits.stas",
    "diff <(stas-export inspect a.stas --text) <(stas-export inspect b.stas --text)",
)
@click.argument("bundle", type=PATH)
@click.option("--text", is_flag=True, help="Print the graph as text, to read and to compare by diff.")
def command(bundle: Path, text: bool, as_json: bool) -> None:
    """Show what is inside BUNDLE: its origin, and every node with its output, parameters and integer bound.

    A bound is the largest integer that a value can take; hardware has to hold it.
    """
    content = load_bundle(bundle)
    graph, origin = content.graph, content.provenance
    if text and not as_json:
        click.echo(print_graph(graph), nl=False)
        return
    facts = summary(graph)
    nodes = [_describe(graph, node) for node in graph.nodes]
    if as_json:
        document = {
            "bundle": str(bundle),
            "sha256": content.sha256,
            "source": origin.source,
            "source_sha256": origin.source_sha256,
            "options": origin.options,
            "tool_version": origin.tool_version,
            "created": origin.created,
            **facts,
            "graph": nodes,
        }
        emit_json(document | ({"text": print_graph(graph)} if text else {}))
        return
    options = ", ".join(f"{name} {value}" for name, value in origin.options.items()) or "none"
    made = f"stas-neuro {origin.tool_version}, {origin.created}"
    click.echo(f"from {origin.source}, options {options}, by {made}")
    click.echo(
        f"{facts['stage']}; input {tuple(facts['input_shape'])}; {facts['time_steps']} time steps; "
        f"{facts['blocks']} blocks; {facts['tokens']} tokens; halting {facts['accumulate']}; "
        f"readout {facts['readout']}; classes {', '.join(facts['classes'])}"
    )
    rows = [
        (
            node["name"],
            node["type"],
            node["phase"],
            node["scope"],
            ", ".join(f"{out['kind']} {tuple(out['shape'])}" for out in node["outputs"]),
            max((out["bound"] for out in node["outputs"] if out["bound"] is not None), default=""),
            node["parameters"] or "",
        )
        for node in nodes
    ]
    emit_table(("node", "type", "phase", "scope", "output", "bound", "parameters"), rows)
    click.echo(f"{facts['nodes']} nodes, {facts['parameters']} parameters")


def _describe(graph: Graph, node: Node) -> dict[str, Any]:
    types = [(port, graph.types[node.name, port]) for port in node.OUTPUTS]
    return {
        "name": node.name,
        "type": type(node).__name__,
        "phase": str(node.phase),
        "scope": node.scope,
        "outputs": [
            {"port": port, "kind": str(t.kind), "shape": list(t.shape), "bound": t.bound} for port, t in types
        ],
        "parameters": sum(graph.tensor(node, param).size for param in node.params(graph.time_steps)),
    }
