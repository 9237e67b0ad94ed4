"""``stas-export report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stas_neuro.cli.common import PATH, emit_json, force_option, progress, stas_command
from stas_neuro.cli.pricing import (
    Settings,
    chosen_profile,
    chosen_profiles,
    pricing_options,
    set_option,
    settings_json,
    tell_settings,
)
from stas_neuro.errors import InputError
from stas_neuro.files import check_outputs

if TYPE_CHECKING:
    from stas_neuro.data import LabelledImages
    from stas_neuro.energy import Deployment
    from stas_neuro.page import Run
    from stas_neuro.report.frontier_file import Frontier

_CERTIFICATE = b'"stas-neuro certificate"'
_SEARCHED = 256
"""Bytes at the start of a file in which a certificate names its format."""


@stas_command(
    "stas-export report runs/halting runs/stage1 -o report.html",
    'stas-export report runs/mine "stage 1"=runs/stage1 best certificate.json --images 0,3,7 -o report.html',
)
@click.argument("paths", nargs=-1, required=True, metavar="[LABEL=]RUN...")
@click.option("-o", "--output", required=True, type=PATH, metavar="FILE", help="The page to write, .html.")
@click.option(
    "--profile",
    metavar="NAME|FILE",
    help="The chip of the headline and of the breakdown.  [default: the one that RUN was placed for]",
)
@click.option(
    "--profiles",
    default="all",
    show_default=True,
    metavar="all|A,B,...",
    help="Chips to price on: names of profiles in the catalogue, or .toml files.",
)
@click.option(
    "--data",
    metavar="DATA",
    help="The images of the runs, to draw where tokens halt.  [default: what RUN says it used]  The images "
    "that RUN left out with --skip are left out here, too.",
)
@click.option(
    "--images",
    "chosen",
    metavar="N,N,...",
    help="Numbers of the images to draw where tokens halt on, from 0.  [default: the first 8]",
)
@set_option
@pricing_options
@force_option
def command(
    paths: tuple[str, ...],
    output: Path,
    profile: str | None,
    profiles: str,
    data: str | None,
    chosen: str | None,
    settings: Settings,
    deployment: Deployment,
    force: bool,
    as_json: bool,
) -> None:
    """Write one page with the prices of runs and everything behind them, which needs no network.

    The first RUN is what the page is about; RUNs without halting are what it is compared with, others stand
    beside it. RUN is a directory written by run, or an activity file. An output of optimise or a certificate
    of verify among them is shown, too. All figures are estimated, not measured.
    """
    from stas_neuro.chips import list_profiles, profile_path
    from stas_neuro.cli.runs import labelled_run
    from stas_neuro.data import data_path, load_data
    from stas_neuro.page import make_report, page_output
    from stas_neuro.report.frontier_file import FRONTIER_FILE, read_frontiers
    from stas_neuro.verifier.certificate import read_certificate

    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{output} is no page", "give a name that ends in .html")
    chips = list_profiles() if profiles == "all" else tuple(name.strip() for name in profiles.split(","))
    labelled = [(label, Path(path)) for label, _, path in (each.rpartition("=") for each in paths)]
    reads = [path for _, path in labelled]
    written = page_output(output, force=force)
    check_outputs([written], reads=[*reads, data_path(data), *map(profile_path, (profile, *chips))])
    frontiers: list[Frontier] = []
    certificates: list[dict[str, Any]] = []
    runs: list[tuple[str, Path]] = []
    for label, path in labelled:
        if path.name == FRONTIER_FILE or (path / FRONTIER_FILE).is_file():
            frontiers += read_frontiers(path)
        elif _is_certificate(path):
            certificates.append(read_certificate(path))
        else:
            runs.append((label, path))
    given = [labelled_run(label or path.resolve().name, path) for label, path in runs]
    images = None if data is None else load_data(data)
    if given:
        images = _own_data(given[0], runs[0][1]) if images is None else _without_skipped(images, runs[0][1])
    chip = None if profile is None else chosen_profile(profile, settings)
    loaded = chosen_profiles(chips, settings)
    with progress("pricing") as tell:
        report = make_report(
            given,
            profile=chip,
            profiles=loaded,
            deployment=deployment,
            data=images,
            images=None if chosen is None else _numbers(chosen),
            frontiers=frontiers,
            certificates=certificates,
            progress=tell,
        )
    report.write(output, force=force)
    priced = {each.name: each for each in (*loaded, *([] if chip is None else [chip]))}.values()
    if as_json:
        document = {"page": str(output), "bytes": len(report.html.encode()), **report.to_json()}
        emit_json(document | settings_json(priced))
        return
    figures = sum(len(section.figures) for section in report.sections)
    click.echo(f"{output}: {figures} charts, {len(report.html.encode()) / 1e6:.1f} MB; it needs no network")
    tell_settings(priced)
    for section in report.sections:
        for why in section.missing:
            click.echo(f"not shown: {why}")
    for why in report.prices.unchecked:
        click.echo(f"not checked: {why}")


def _own_data(run: Run, path: Path) -> LabelledImages | None:
    """Load the images that a run says it used, if they are still there and the same."""
    from stas_neuro.api import has_images
    from stas_neuro.cli.runs import data_of
    from stas_neuro.data import load_data

    (named, _), known = data_of(path), run.activity.origin.images
    if named is None or known is None:
        return None
    try:
        data = _without_skipped(load_data(named), path)
    except InputError:
        return None
    return data if has_images(data, known, run.activity.numbers) else None


def _without_skipped(data: LabelledImages, path: Path) -> LabelledImages:
    """Leave out the first images that a run left out."""
    from stas_neuro.cli.runs import data_of

    _, skip = data_of(path)
    return data.select(slice(skip, None)) if skip else data


def _is_certificate(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _CERTIFICATE in file.read(_SEARCHED)


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if unreadable := [word for word in words if not word.isdecimal()]:
        raise InputError(f"--images: {unreadable[0]!r} is no number of an image", "give numbers, as 0,3,7")
    return [int(word) for word in words]
