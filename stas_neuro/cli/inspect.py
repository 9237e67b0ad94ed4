"""``stas-export inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stas_neuro.cli.common import PATH, emit, emit_json, emit_table, halting_words, stas_command, summary
from stas_neuro.cli.models import open_bundle
from stas_neuro.cli.pricing import Settings, chosen_profile, set_option, settings_json, tell_settings
from stas_neuro.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from stas_neuro.chips import Profile
    from stas_neuro.exporters.lava.portability import Portability
    from stas_neuro.ir import Graph, Node
    from stas_neuro.mapping import Mapping
    from stas_neuro.placement import Utilisation


@stas_command(
    "stas-export inspect digits.stas",
    "stas-export inspect digits.stas --portability",
    "diff <(stas-export inspect a.stas --text) <(stas-export inspect b.stas --text)",
)
@click.argument("bundle", type=PATH)
@click.option("--text", is_flag=True, help="Print the graph as text, for reading and for diff.")
@click.option(
    "--portability",
    "portable",
    is_flag=True,
    help="Report where each Lava process would run on Loihi 2, with sources.",
)
@click.option("--cores", is_flag=True, help="List the contents of each core; requires a placed bundle.")
@click.option(
    "--profile",
    metavar="NAME|FILE",
    help="Check its cores against the limits of another chip.",
)
@set_option
def command(
    bundle: Path,
    text: bool,
    portable: bool,
    cores: bool,
    profile: str | None,
    settings: Settings,
    as_json: bool,
) -> None:
    """Show the contents of BUNDLE: its origin, and every node with its output, parameters and integer bound.

    A bound is the largest integer that a value can take, which hardware must be able to store. Exit code 1 if
    the cores of the bundle exceed the limits of --profile.
    """
    from stas_neuro.exporters.lava.portability import SOURCES, portability, used_sources
    from stas_neuro.ir.text import print_graph
    from stas_neuro.placement import utilisation
    from stas_neuro.report.placement import utilisation_report

    content = open_bundle(bundle)
    graph, origin = content.graph, content.provenance
    if text and not as_json:
        click.echo(print_graph(graph), nl=False)
        return
    processes = portability(graph if content.quantised is None else content.quantised) if portable else ()
    if portable and not as_json:
        _show(processes)
        return
    chips: list[Profile] = []
    use, unknown = None, None
    if content.mapping is not None:
        unknown = None if profile else _why_unknown(content.mapping)
        if unknown is None:
            chips = [chosen_profile(profile or content.mapping.profile, settings)]
            use = utilisation(content.quantised or graph, content.mapping, chips[0])
    elif profile is not None or cores or settings:
        raise InputError(f"{bundle} is not placed on cores", "compile it with --placement")
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
        if text:
            document["text"] = print_graph(graph)
        if content.mapping is not None:
            document["utilisation"] = None if use is None else _utilisation(use)
            document["utilisation_unknown"] = unknown
        if portable:
            document["portability"] = [asdict(process) for process in processes]
            document["portability_sources"] = {key: SOURCES[key] for key in used_sources(processes)}
        emit_json(document | settings_json(chips))
        _require_fit(use)
        return
    options = ", ".join(f"{name} {value}" for name, value in origin.options.items()) or "none"
    made = f"stas-neuro {origin.tool_version}, {origin.created}"
    click.echo(f"from {origin.source}, options {options}, by {made}")
    click.echo(
        f"{facts['stage']}; input {tuple(facts['input_shape'])}; {facts['time_steps']} time steps; "
        f"{facts['blocks']} blocks; {facts['tokens']} tokens; halting {halting_words(facts)}; "
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
    if unknown is not None:
        click.echo(f"the utilisation of its cores is unknown: {unknown}")
    if use is not None:
        emit(utilisation_report(use, every_core=cores))
        tell_settings(chips)
    _require_fit(use)


def _why_unknown(mapping: Mapping) -> str | None:
    """Return why a bundle cannot be checked against the profile it was placed for, if so.

    A bundle stores only the name of its profile, so one that was a file cannot be found again.
    """
    from stas_neuro.chips.catalogue import list_profiles

    if mapping.profile in list_profiles():
        return None
    return (
        f"it was placed for the profile {mapping.profile}, which is not in the catalogue: "
        "give its file (--profile FILE)"
    )


def _require_fit(use: Utilisation | None) -> None:
    """Raise CheckFailed with the limits that the cores exceed."""
    if use is not None and (broken := use.exceeded()):
        remedy = f"compile it with --placement and --profile {use.profile}"
        raise CheckFailed(f"does not fit {use.profile}: {', '.join(broken)}", remedy)


def _utilisation(use: Utilisation) -> dict[str, Any]:
    """Return the utilisation of the cores in the form of the JSON document."""
    return {
        "profile": use.profile,
        "fits": not use.exceeded(),
        "weight_bits": use.weight_bits,
        "strategy": use.strategy,
        "groups": use.groups,
        "cores": [
            asdict(site)
            | {"layers": list(use.layers[core])}
            | {resource.replace(" ", "_"): int(used[core]) for resource, used in use.used.items()}
            for core, site in enumerate(use.cores)
        ],
        "limits": {resource.replace(" ", "_"): limit for resource, limit in use.limits.items()},
        "worst_core": {resource.replace(" ", "_"): use.worst(resource) for resource in use.used},
        "chips": use.chips,
        "cores_per_chip": use.cores_per_chip,
        "cores_unshared": use.cores_unshared,
        "unchecked": dict(use.unchecked),
    }


def _show(processes: Sequence[Portability]) -> None:
    """Print where the Lava processes would run, one row for each kind."""
    from stas_neuro.exporters.lava.portability import NOTES, SOURCES, kinds_of, used_sources

    rows = [
        (row.kind, number, row.runs_on, row.statement, ", ".join(row.sources))
        for row, number in kinds_of(processes)
    ]
    emit_table(("process", "count", "runs on", "reason", "sources"), rows, "On Loihi 2, by public sources")
    for note in NOTES:
        click.echo(note)
    for key in used_sources(processes):
        click.echo(f"[{key}] {SOURCES[key]}")


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
