"""``stas-export calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stas_neuro.cli.common import PATH, emit_json, emit_table, force_option, stas_command
from stas_neuro.cli.pricing import Settings, chosen_profile, set_option, settings_json, tell_settings
from stas_neuro.errors import InputError
from stas_neuro.files import check_outputs

if TYPE_CHECKING:
    from stas_neuro.energy.calibrated import Calibration, Error, Fit
    from stas_neuro.energy.result import Interval

_UNITS = {"energy": "pJ", "time": "ns", "power": "mW"}


@stas_command(
    "stas-export calibrate board.csv --profile loihi1 -o board.toml",
    "stas-export estimate runs/digits-lava --profile board.toml",
)
@click.argument("measurements", metavar="MEASUREMENTS.csv", type=PATH)
@click.option("--profile", required=True, metavar="NAME|FILE", help="The profile to start from.")
@click.option("-o", "--output", required=True, type=PATH, metavar="FILE.toml", help="The fitted profile.")
@click.option(
    "--fit",
    metavar="ENTRY,...",
    help="Entries to fit.  [default: all that the columns determine, except power.management]",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Confidence level of the intervals.",
)
@set_option
@force_option
def command(
    measurements: Path,
    profile: str,
    output: Path,
    fit: str | None,
    confidence: float,
    settings: Settings,
    force: bool,
    as_json: bool,
) -> None:
    """Fit a profile to measured runs: one row for each, with its event counts and its energy or time.

    Entries that are not fitted keep the values of the profile. Reports how well the fit predicts held-out
    runs, and which entries the runs cannot distinguish. The output extends the profile, and can be used
    wherever a profile can.
    """
    from stas_neuro.chips import profile_path
    from stas_neuro.energy.calibrated import fitted_output
    from stas_neuro.energy.calibration import calibrate

    if output.suffix != ".toml":
        raise InputError(f"{output} does not end in .toml", "give the output a name that ends in .toml")
    check_outputs([fitted_output(output, force=force)], reads=[measurements, profile_path(profile)])
    names = None if fit is None else [name.strip() for name in fit.split(",")]
    chip = chosen_profile(profile, settings)
    result = calibrate(measurements, chip, extends=profile, fit=names, confidence=confidence)
    result.write(output, force=force)
    if as_json:
        emit_json(result.to_json() | settings_json([chip]))
        return
    for done in result.fits:
        _show(done, result)
    tell_settings([chip])
    click.echo(f"written to {output}, which extends {result.extends}")


def _show(fit: Fit, result: Calibration) -> None:
    what, unit = ("energy", "J") if fit.quantity == "energy_j" else ("time", "s")
    rows = [
        (
            found.entry,
            *_cells(found.entry, found.fitted),
            *(_cells(found.entry, found.before) if found.before else ("", "")),
            _UNITS[found.entry.split(".")[0]],
            "open" if found.inflation is None else f"{found.inflation:.3g}",
        )
        for found in fit.entries
    ]
    ends = f"{100 * result.confidence:g} % interval"
    title = f"Fitted to the {what} of {result.runs} runs"
    emit_table(("entry", "fitted", ends, "before", "interval", "unit", "variance x"), rows, title)
    emit_table(
        ("run", f"measured {unit}", "fitted", "error", "held out", "error", "before", "error"),
        [
            (
                run.run,
                f"{run.measured:.4g}",
                *_against(run.fitted, run.measured),
                *_against(run.held_out, run.measured),
                *_against(run.before, run.measured),
            )
            for run in fit.residuals
        ],
    )
    for subject, error in (
        ("fit", fit.error),
        ("held-out runs", fit.held_out_error),
        (f"original profile {result.profile.name}", fit.error_before),
    ):
        click.echo(f"error of the {subject}: {_percent(error)}")
    if fit.kept:
        click.echo(f"taken from the profile, and subtracted: {', '.join(fit.kept)}")
    for warning in fit.warnings:
        click.echo(f"warning: {warning}")


def _cells(entry: str, interval: Interval) -> tuple[str, str]:
    from stas_neuro.chips.entries import UNITS

    section = entry.split(".")[0]
    size = UNITS[section][_UNITS[section]]
    return f"{interval.value / size:.4g}", f"{interval.low / size:.4g} to {interval.high / size:.4g}"


def _against(predicted: float | None, measured: float) -> tuple[str, str]:
    if predicted is None:
        return "", ""
    return f"{predicted:.4g}", f"{100 * (predicted / measured - 1):+.2f} %" if measured else ""


def _percent(error: Error | None) -> str:
    return "unknown" if error is None else f"{100 * error.mean:.2f} % mean, {100 * error.worst:.2f} % worst"
