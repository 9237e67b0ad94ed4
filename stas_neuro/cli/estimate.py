"""``stas-export estimate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stas_neuro.cli.common import PATH, emit, emit_json, stas_command
from stas_neuro.cli.pricing import pricing_options

if TYPE_CHECKING:
    from stas_neuro.energy import Deployment


@stas_command(
    "stas-export estimate runs/digits-lava --profile loihi2",
    "stas-export estimate my_counts.json --profile my_chip.toml --json",
)
@click.argument("run", metavar="RUN|ACTIVITY", type=PATH)
@click.option(
    "--profile", required=True, metavar="NAME|FILE", help="A profile of the catalogue, or a .toml file."
)
@pricing_options
@click.option("--full", is_flag=True, help="Also print each event, layer, step, core, assumption and source.")
def command(
    run: Path,
    profile: str,
    deployment: Deployment,
    full: bool,
    as_json: bool,
) -> None:
    """Price RUN on one chip: energy and latency per inference, each with its interval and sources.

    RUN is a directory written by run, or an activity file, which may contain counts measured elsewhere
    (format: docs/activity.md). All figures are estimated, not measured.
    """
    from stas_neuro.chips import load_profile
    from stas_neuro.cli.runs import read_run
    from stas_neuro.energy import estimate
    from stas_neuro.report import estimate_report

    cost = estimate(read_run(run), load_profile(profile), deployment)
    if as_json:
        emit_json(cost.to_json())
    else:
        emit(estimate_report(cost, details=full))
        if not full:
            click.echo("--full lists each event, layer, step, core, assumption and source.")
