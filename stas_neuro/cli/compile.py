"""``stas-export compile``."""

from __future__ import annotations

from pathlib import Path

import click

from stas_neuro import api
from stas_neuro.bundle import load_bundle, save_bundle
from stas_neuro.cli.common import PATH, emit_json, force_option, stas_command, summary
from stas_neuro.models.config import ACCUMULATIONS, READOUTS


@stas_command(
    "stas-export compile runs/digits -o digits.stas",
    "stas-export compile runs/digits --accumulate off -o digits-without-halting.stas",
)
@click.argument("model", type=PATH)
@click.option(
    "-o",
    "--output",
    required=True,
    type=PATH,
    metavar="BUNDLE",
    help="Directory to write, or a file ending in .zip.",
)
@click.option(
    "--accumulate",
    type=click.Choice(ACCUMULATIONS),
    help="Over what halting scores add up, instead of as trained; off ignores halting.",
)
@click.option("--epsilon", type=float, metavar="E", help="A token halts at 1 - E, instead of as trained.")
@click.option("--readout", type=click.Choice(READOUTS), help="What the head sees, instead of as trained.")
@force_option
def command(
    model: Path,
    output: Path,
    accumulate: str | None,
    epsilon: float | None,
    readout: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compile MODEL, a checkpoint directory, to a bundle.

    A bundle holds the graph with every normalisation folded, its weights, and where they come from. To run it
    takes numpy, and Lava if asked for, but not torch.
    """
    graph = api.compile(model, accumulate=accumulate, epsilon=epsilon, readout=readout)
    origin = api.provenance(model, accumulate=accumulate, epsilon=epsilon, readout=readout)
    save_bundle(graph, output, origin, force=force)
    facts = summary(graph)
    if as_json:
        document = {"bundle": str(output), "sha256": load_bundle(output).sha256, "source": origin.source}
        document |= {"source_sha256": origin.source_sha256, "options": origin.options}
        emit_json(document | facts)
        return
    click.echo(
        f"{output}: {facts['nodes']} nodes, {facts['parameters']} parameters, {facts['blocks']} blocks x "
        f"{facts['time_steps']} time steps on {facts['tokens']} tokens, {len(facts['classes'])} classes, "
        f"halting {facts['accumulate']}"
    )
