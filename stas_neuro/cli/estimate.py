"""``stas-export estimate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stas_neuro.cli.common import PATH, emit, emit_json, stas_command
from stas_neuro.cli.pricing import (
    Settings,
    chosen_profile,
    pricing_options,
    set_option,
    settings_json,
    tell_settings,
)
from stas_neuro.errors import InputError

if TYPE_CHECKING:
    from stas_neuro.activity import Activity
    from stas_neuro.chips import Profile
    from stas_neuro.energy import Deployment


@stas_command(
    "stas-export estimate runs/digits-lava --profile loihi2",
    "stas-export estimate my_counts.json --profile my_chip.toml --json",
)
@click.argument("run", metavar="RUN|ACTIVITY", type=PATH)
@click.option(
    "--profile", required=True, metavar="NAME|FILE", help="A profile of the catalogue, or a .toml file."
)
@set_option
@pricing_options
@click.option(
    "--scale-width",
    "widths",
    metavar="D,D,...",
    help="Price networks of these widths instead, scaled from RUN at the same rates of spikes.",
)
@click.option("--full", is_flag=True, help="Also print each event, layer, step, core, assumption and source.")
def command(
    run: Path,
    profile: str,
    settings: Settings,
    deployment: Deployment,
    widths: str | None,
    full: bool,
    as_json: bool,
) -> None:
    """Price RUN on one chip: energy and latency per inference, each with its interval and sources.

    RUN is a directory written by run, or an activity file, which may contain counts measured elsewhere
    (format: docs/activity.md). All figures are estimated, not measured.
    """
    from stas_neuro.cli.runs import read_run
    from stas_neuro.energy import estimate
    from stas_neuro.report import estimate_report

    chip = chosen_profile(profile, settings)
    if widths is not None:
        _price_widths(read_run(run), chip, deployment, _numbers(widths), as_json)
        return
    activity = read_run(run)
    cost = estimate(activity, chip, deployment)
    if as_json:
        emit_json(cost.to_json() | settings_json([chip]))
    else:
        emit(estimate_report(cost, details=full))
        tell_settings([chip])
        if activity.sample_note and not full:
            click.echo(f"note: {activity.sample_note}")
        if not full:
            click.echo("--full lists each event, layer, step, core, assumption and source.")


def _price_widths(
    activity: Activity, chip: Profile, deployment: Deployment, widths: list[int], as_json: bool
) -> None:
    from stas_neuro.energy import estimate, scale_width
    from stas_neuro.report import widths_report

    records = [scale_width(activity, width) for width in widths]
    costs = [estimate(record, chip, deployment) for record in records]
    if as_json:
        emit_json(
            [
                {"width": width, "estimate": cost.to_json()} | settings_json([chip])
                for width, cost in zip(widths, costs, strict=True)
            ]
        )
    else:
        tell_settings([chip])
        emit(widths_report(list(zip(records, costs, strict=True))))


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if unreadable := [word for word in words if not word.isdecimal()]:
        raise InputError(f"--scale-width: {unreadable[0]!r} is no width", "give numbers, as 64,128,256")
    return [int(word) for word in words]
