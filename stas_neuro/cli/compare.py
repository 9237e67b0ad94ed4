"""``stas-export compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stas_neuro.choices import SCHEDULES
from stas_neuro.cli.common import PATH, emit, emit_json, emit_table, force_option, stas_command
from stas_neuro.cli.pricing import (
    Settings,
    chosen_profiles,
    pricing_options,
    set_option,
    settings_json,
    tell_settings,
)
from stas_neuro.errors import InputError
from stas_neuro.files import check_outputs

if TYPE_CHECKING:
    from stas_neuro.activity import Activity
    from stas_neuro.chips import Profile
    from stas_neuro.energy import Deployment, Estimate, Interval, Schedule


@stas_command(
    "stas-export compare runs/digits-lava --profiles all",
    'stas-export compare runs/halting --baseline "stage 1"=runs/stage1 --profiles loihi1,loihi2',
)
@click.argument("run", metavar="RUN|ACTIVITY", type=PATH)
@click.option(
    "--profiles",
    default="all",
    show_default=True,
    metavar="all|A,B,...",
    help="Names of profiles in the catalogue, or .toml files.",
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="[LABEL=]RUN",
    help="A run without halting on the same images, to compute what halting saves; can be repeated.",
)
@set_option
@pricing_options
@click.option(
    "--baseline-schedule",
    type=click.Choice(list(SCHEDULES)),
    help="The schedule of the baselines.  [default: the fastest that each allows]",
)
@click.option(
    "--stale",
    multiple=True,
    metavar="[LABEL=]RUN",
    help="A run of the same network with late decisions on the same images, to compare schedules; can be "
    "repeated.",
)
@click.option(
    "--csv", "csv_file", type=PATH, metavar="FILE", help="Write all comparisons with baselines as CSV."
)
@click.option(
    "--picture", type=PATH, metavar="FILE", help="Write a chart of the causes of savings, as .svg or .png."
)
@click.option("--full", is_flag=True, help="Also print latency, causes of savings, schedules and reasons.")
@force_option
def command(
    run: Path,
    profiles: str,
    baselines: tuple[str, ...],
    settings: Settings,
    deployment: Deployment,
    baseline_schedule: Schedule | None,
    stale: tuple[str, ...],
    csv_file: Path | None,
    picture: Path | None,
    full: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Price RUN on several chips side by side, the cheapest first, and report what halting saves on each.

    The saving depends on the baseline: give runs of a model without halting, such as that of
    stage 1, or of the same weights compiled with --accumulate off. The report attributes the saving to its
    causes, and gives the share of the saving in the operation count that remains. All figures are estimated.
    """
    from stas_neuro.chips import list_profiles, profile_path
    from stas_neuro.energy import check_alike, check_same_network, compare, compare_schedules
    from stas_neuro.report import (
        comparison_csv,
        comparison_report,
        csv_output,
        schedules_report,
        what_if_lines,
    )
    from stas_neuro.report.charts import chart_output, savings_chart, write_chart
    from stas_neuro.report.tables import lines

    named = list_profiles() if profiles == "all" else [name.strip() for name in profiles.split(",")]
    table = None if csv_file is None else csv_output(csv_file, force=force)
    drawing = None if picture is None else chart_output(picture, force=force)
    for output in (place for place in (table, drawing) if place is not None and not baselines):
        what = f"{output.path} would contain savings, and there is no baseline"
        raise InputError(what, "give a --baseline")
    others = [text.rpartition("=")[2] for text in (*baselines, *stale)]
    check_outputs([table, drawing], reads=[run, *others, *map(profile_path, named)])
    loaded = chosen_profiles(named, settings)
    label, late, without = _runs(run, stale, baselines)
    runs, activity = late | without, late[label]
    unchecked = dict.fromkeys((*check_alike(runs), *check_same_network(late)))
    priced, lacking = price_each(activity, loaded, deployment)
    if not priced:
        reasons = " ".join(f"{name}: {reason}." for name, reason in lacking.items())
        raise InputError(f"no profile could price {run}. {reasons[:-1]}", "choose other --profiles")
    saved, reported = None, dict[str, None]()
    if without:
        saved = compare(
            activity,
            without,
            loaded,
            deployment,
            baseline=deployment.without_halting(baseline_schedule),
            label=label,
        )
        unchecked |= (reported := dict.fromkeys(reason for row in saved.rows for reason in row.unchecked))
        if table is not None:
            table.write(comparison_csv({label: saved}).encode())
        if drawing is not None:
            write_chart(drawing.path, savings_chart({label: saved}), force=force)
    schedules = compare_schedules(runs, loaded, deployment)
    if as_json:
        document: dict[str, Any] = {"estimates": [cost.to_json() for cost in priced], "missing": lacking}
        document |= {"comparison": None if saved is None else saved.to_json()}
        document |= {"schedules": [asdict(row) for row in schedules], "unchecked": list(unchecked)}
        emit_json(document | settings_json(loaded))
        return
    show_side_by_side(priced, lacking)
    tell_settings(loaded)
    _hint(priced, loaded, activity)
    if saved is not None:
        emit(comparison_report(saved, details=full))
    for line in [] if saved is not None else what_if_lines(("this network", cost) for cost in priced):
        click.echo(line)
    if full or stale:
        emit(schedules_report(schedules))
    if rest := [reason for reason in unchecked if reason not in reported]:
        emit(lines("Not checked", rest))


def _labelled(given: Sequence[str], taken: Mapping[str, Activity]) -> dict[str, Activity]:
    """Read runs by label, by default the name of their file or directory; `taken` labels are refused."""
    from stas_neuro.cli.runs import read_run

    runs: dict[str, Activity] = {}
    for text in given:
        label, _, path = text.rpartition("=")
        label = label or Path(path).resolve().name
        if label in runs or label in taken:
            raise InputError(f"two runs are called '{label}'", f"give {path} a label: LABEL={path}")
        runs[label] = read_run(Path(path))
    return runs


def _runs(
    run: Path, stale: Sequence[str], baselines: Sequence[str]
) -> tuple[str, dict[str, Activity], dict[str, Activity]]:
    """Return the label of the run, by label the run with those on stale decisions, and the baselines.

    If one has the counts of a sample of its images only, all are restricted to that sample.
    """
    from stas_neuro.activity import image_by_image
    from stas_neuro.cli.runs import read_run

    label = run.resolve().name
    late = {label: read_run(run)}
    late |= _labelled(stale, late)
    without = _labelled(baselines, late)
    records = iter(image_by_image([*late.values(), *without.values()]))
    return label, {name: next(records) for name in late}, {name: next(records) for name in without}


def price_each(
    activity: Activity, profiles: Sequence[Profile], deployment: Deployment
) -> tuple[list[Estimate], dict[str, str]]:
    """Price on every chip, the cheapest first, those without a total last; and why others have no price."""
    from stas_neuro.chips import CannotRun, MissingEntry
    from stas_neuro.energy import estimate

    priced, lacking = [], {}
    for profile in profiles:
        try:
            priced.append(estimate(activity, profile, deployment))
        except (MissingEntry, CannotRun) as error:
            lacking[profile.name] = str(error)
    priced.sort(key=lambda cost: cost.energy_j.value if cost.energy_j else float("inf"))
    return priced, lacking


def _hint(priced: Sequence[Estimate], profiles: Sequence[Profile], activity: Activity) -> None:
    """Say what was priced of a sample; suggest --gating power for chips that were priced without it."""
    if activity.sample_note:
        click.echo(f"note: {activity.sample_note}")
    silent = {cost.profile for cost in priced if cost.gating == "silent"}
    for profile in profiles:
        known = profile.reason("capabilities.core_gating") is None
        if profile.name in silent and known and profile.capability("core_gating") == "power":
            what = f"{profile.name} is priced without power gating of cores; --gating power prices it"
            click.echo(f"{what} (requires a run on cores: compile --placement).")


def show_side_by_side(priced: Sequence[Estimate], lacking: dict[str, str]) -> None:
    """Print one row for each chip."""
    from stas_neuro.energy import disclaimer_of
    from stas_neuro.report import si
    from stas_neuro.report.tables import deployed, disclaimer, interval_cells

    columns = ("profile", "energy", "low", "high", "dynamic", "for\nhalting", "static", "latency", "cores")
    rows = [
        (
            cost.profile,
            *interval_cells(cost.energy_j, "J"),
            _value(cost.dynamic_energy_j, "J"),
            _value(cost.halting_energy_j, "J"),
            _value(cost.static_energy_j, "J"),
            _value(cost.latency_s, "s"),
            cost.cores if cost.cores is not None else "-",
        )
        for cost in priced
    ]
    if priced:
        one = priced[0]  # the options but the copies, and the operation count, are those on every chip
        count = si(one.op_count_energy_j.value, "J")
        title = f"Per inference, mean of {one.images} images, {deployed(replace(one, replicas=1))}"
        emit_table(columns, rows, f"{title}; 45 nm operation count {count}")
    for name, reason in lacking.items():
        click.echo(f"{name} was not priced: {reason}")
    if priced:
        emit(disclaimer(disclaimer_of(cost.figures for cost in priced)))


def _value(interval: Interval | None, unit: str) -> str:
    from stas_neuro.report import si

    return "-" if interval is None else si(interval.value, unit)
