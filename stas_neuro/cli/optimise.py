"""``stas-export optimise``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stas_neuro.choices import DEFAULT_PROFILE, GOALS, HALT_MODES, MODES
from stas_neuro.cli.common import (
    data_option,
    directory_option,
    emit,
    emit_json,
    force_option,
    limit_option,
    max_drop_option,
    parse_share,
    progress,
    stas_command,
)
from stas_neuro.cli.models import MODEL, labelled_models, rivals_option
from stas_neuro.cli.pricing import Settings, chosen_profiles, set_option, tell_settings
from stas_neuro.files import Output, check_outputs

if TYPE_CHECKING:
    from stas_neuro.choices import Goal, Mode
    from stas_neuro.optimiser import Optimised

IMAGES = 512
"""Default number of images: half of them to choose with, half to report."""
PICTURE = "frontier.png"


@stas_command(
    "stas-export optimise runs/digits --data digits --profile loihi2 -o best",
    "stas-export optimise runs/digits --data digits --rival stage1=runs/digits/stage1 --mode stream -o best",
)
@click.argument("model", metavar="MODEL", type=MODEL)
@data_option
@directory_option("Directory to write.")
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    default=(DEFAULT_PROFILE,),
    show_default=True,
    metavar="NAME|FILE",
    help="The chip; can be repeated.",
)
@click.option(
    "--objective",
    type=click.Choice(list(GOALS)),
    default="energy",
    show_default=True,
    help="What the best deployment is chosen by, among those that are accurate enough.",
)
@click.option(
    "--mode",
    "modes",
    type=click.Choice(list(MODES)),
    multiple=True,
    default=("single",),
    show_default=True,
    help="Price an image alone, or in a stream of images; can be repeated.",
)
@click.option(
    "--min-accuracy", callback=parse_share, metavar="A", help="Least accuracy of the best, as 90% or 0.9."
)
@max_drop_option(
    "Largest loss of accuracy of the best, relative to the network without halting.  [default: 1%]"
)
@rivals_option(
    "Another model to search beside, such as that of stage 1 or of one time step; can be repeated."
)
@click.option(
    "--policies",
    metavar="A,B,...",
    help=f"Halting policies to try.  [default: {','.join(HALT_MODES)}]",
)
@click.option("--bits", default="8", show_default=True, metavar="A,B,...", help="Widths of weights to try.")
@click.option(
    "--calibrate",
    metavar="DATA",
    help="Images to choose the scales of integers with.  [default: those that deployments are chosen on]",
)
@click.option(
    "--assumed",
    is_flag=True,
    help="Also try what no publication describes: model steps, and runs of an image, that end early.",
)
@click.option(
    "--points",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    metavar="N",
    help="Compile and run at most N points of the frontier.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Number of processes.  [default: one a processor]"
)
@set_option
@limit_option
@force_option
def command(
    model: Path,
    data: str,
    output: Path,
    profiles: tuple[str, ...],
    settings: Settings,
    objective: Goal,
    modes: tuple[Mode, ...],
    min_accuracy: float | None,
    max_drop: float | None,
    rivals: tuple[str, ...],
    policies: str | None,
    bits: str,
    calibrate: str | None,
    assumed: bool,
    points: int,
    jobs: int | None,
    limit: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Search the deployments of MODEL on a chip for those that no other beats.

    Tries halting policies and their parameters, fewer model steps, image exit, placements, schedules,
    contexts and replicas. Half of the images are used to choose, half to report. The frontier of accuracy,
    energy and latency is compiled, run and priced; beside it are the rivals that do not halt tokens. Writes
    frontier.json, frontier.png and a bundle for each point; with several profiles or modes, in a directory
    for each. All figures are estimated.
    """
    from stas_neuro.chips import profile_path
    from stas_neuro.data import data_path, load_data
    from stas_neuro.optimiser import Choice, Space, optimise_all, targets_of
    from stas_neuro.report.charts import check_installed
    from stas_neuro.report.frontier import frontier_report

    check_installed()
    written = Output.marked(output, "frontier.json", force=force)
    others = labelled_models(rivals)
    reads = [model, *others.values(), data_path(data), data_path(calibrate), *map(profile_path, profiles)]
    check_outputs([written], reads=reads)
    words: dict[str, Any] = {"assumed": assumed, "bits": tuple(map(int, _words(bits)))}
    if policies is not None:
        words["policies"] = _words(policies)
    chips = chosen_profiles(profiles, settings)
    targets, choice = targets_of(chips, modes), Choice(objective, min_accuracy, max_drop, points)
    images = load_data(data)
    with written.filled() as folder, progress("searching", at_once=True) as report:
        results = optimise_all(
            model,
            images.select(slice(0, IMAGES if limit is None else limit)),
            targets,
            choice=choice,
            calibrate=calibrate,
            rivals=others,
            space=Space(**words),
            jobs=jobs or os.cpu_count() or 1,
            folder=folder,
            report=lambda what, done, total: report(done, total, what),
        )
        write_frontiers(results, folder, model.resolve().name)
    if as_json:
        documents = [result.to_json() for result in results]
        emit_json(documents if len(results) > 1 else documents[0])
        return
    for result in results:
        emit(frontier_report(result))
    tell_settings(chips)
    click.echo(written_words(output, [result.name for result in results]))


def write_frontiers(results: Sequence[Optimised], folder: Path, run: str) -> None:
    """Write the picture and the JSON of each search, in a folder for each of several, beside its bundles."""
    from stas_neuro.report.charts import frontier_chart, write_chart

    for result in results:
        place = folder / result.name if len(results) > 1 else folder
        place.mkdir(exist_ok=True)
        if result.points:
            write_chart(place / PICTURE, frontier_chart(result, run=run))
        (place / "frontier.json").write_text(_json(result.to_json()))
    if len(results) > 1:
        (folder / "frontier.json").write_text(_json([result.to_json() for result in results]))


def written_words(output: Path, searches: Sequence[str]) -> str:
    """Say where the files of some searches are."""
    files = f"a bundle for each point, frontier.json and {PICTURE}"
    if len(searches) == 1:
        return f"{output} has {files}"
    folders = ", ".join(str(output / name) for name in searches)
    return f"{folders} have {files}; {output} has the frontier.json of all"


def _json(document: Any) -> str:
    return json.dumps(document, indent=1, allow_nan=False)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))
