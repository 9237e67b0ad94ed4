"""``stas-export run``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stas_neuro.choices import ACTIVITY_FORMS, ARITHMETICS, DTYPES, GATINGS, GRANULARITIES, RUNTIMES
from stas_neuro.cli.common import (
    PATH,
    data_option,
    emit_json,
    force_option,
    if_interrupted,
    limit_option,
    percent,
    progress,
    stas_command,
)
from stas_neuro.cli.models import open_bundle
from stas_neuro.errors import InputError
from stas_neuro.files import check_outputs, locked_output

if TYPE_CHECKING:
    from stas_neuro.data import LabelledImages


@stas_command(
    "stas-export run digits.stas --data digits --backend lava -o runs/digits-lava",
)
@click.argument("bundle", type=PATH)
@data_option
@click.option(
    "--skip", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N images."
)
@limit_option
@click.option(
    "--backend",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="auto (fast or reference, with the same results), reference (interpreter in numpy), fast (integer "
    "program in compiled loops), lava (processes of Lava, see --granularity), lava-stock (integer "
    "program built only from processes of Lava's library), or one that another package adds.",
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float64",
    show_default=True,
    help="Precision of float arithmetic.",
)
@click.option(
    "--arithmetic",
    type=click.Choice(ARITHMETICS),
    default="float",
    show_default=True,
    help="Run the float network, or the integer program of a bundle compiled with --bits.",
)
@click.option(
    "--gating",
    type=click.Choice(list(GATINGS)),
    default="silent",
    show_default=True,
    help="How halted tokens are treated: silent (neurons are still updated), none (computed and discarded), "
    "core and power (a core is not updated once all its tokens have halted). Results are the same.",
)
@click.option(
    "--no-mapping",
    is_flag=True,
    help="Count events by layer, not by core, for a bundle that was placed on cores.",
)
@click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default="in-process",
    show_default=True,
    help="Runtime of Lava: all in one process, or Lava's own runtime with one operating-system process for "
    "each process of Lava.",
)
@click.option(
    "--granularity",
    type=click.Choice(GRANULARITIES),
    default="auto",
    show_default=True,
    help="Processes of Lava: layer (one for each node), chip (one for each chip of the placement, an integer "
    "program in compiled loops), or auto: chip for integers where the backend fast is installed, else layer.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time that Lava's own runtime may take between two images.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="RUN",
    help="Directory to write run.json, outputs.npz and activity.json, or activity.parquet, to.",
)
@click.option(
    "--per-image",
    is_flag=True,
    help="Record the counts of every image, not only sums over all and the counts of 1000 drawn at random.",
)
@click.option(
    "--activity",
    "form",
    type=click.Choice(ACTIVITY_FORMS),
    default=ACTIVITY_FORMS[0],
    show_default=True,
    help="File of the activity: activity.json, or activity.parquet, which is smaller and faster to read.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted run in RUN, with the same result.")
@force_option
def command(
    bundle: Path,
    data: str,
    skip: int,
    limit: int | None,
    backend: str,
    dtype: str,
    arithmetic: str,
    gating: str,
    no_mapping: bool,
    runtime: str,
    granularity: str,
    deadline: float,
    output: Path | None,
    per_image: bool,
    form: str,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Run BUNDLE on images and record results and events.

    The record has the predictions, which tokens visited which block in which step, and every event count that
    a price depends on. `estimate` and `compare` read it.
    """
    from stas_neuro import api
    from stas_neuro.activity.columns import check_installed
    from stas_neuro.backends import AUTO, BACKENDS, choose_backend, choose_granularity
    from stas_neuro.cli.runs import run_document, run_output, write_run
    from stas_neuro.cli.unfinished import UnfinishedRun, kept
    from stas_neuro.data import data_path, load_data

    written = run_output(output, force=force, resume=resume)
    check_outputs([written], reads=[bundle, data_path(data)])
    if form == "parquet":
        check_installed()
    if backend != AUTO:
        BACKENDS.get(backend)  # refused before any work
    network = open_bundle(bundle)
    backend = choose_backend(backend, network.of(arithmetic))
    if backend == "lava":
        granularity = choose_granularity(granularity, network.of(arithmetic))
    images = _without_first(load_data(data), skip)
    parts = None
    if output is not None:
        key = {
            "bundle_sha256": dict(network.sha256),
            "data": images.source,
            "skip": skip,
            "images": min(limit or len(images), len(images)),
            "backend": backend,
            "arithmetic": arithmetic,
            "dtype": dtype,
            "gating": gating,
            "no_mapping": no_mapping,
            "per_image": per_image,
        }
        click.get_current_context().with_resource(locked_output(output, "another run"))
        parts = UnfinishedRun(output, key, resume=resume)
        if_interrupted("continue with the same command and --resume")
    begun = time.perf_counter()
    with progress(f"running on {backend}") as report, kept(parts):
        trace = api.run(
            network,
            images,
            backend=backend,
            dtype=dtype,
            arithmetic=arithmetic,
            mapping=None if no_mapping else "bundle",
            gating=gating,
            runtime=runtime,
            granularity=granularity,
            deadline_s=deadline,
            limit=limit,
            per_image=per_image,
            progress=report,
            parts=parts,
        )
    wall_time_s = time.perf_counter() - begun
    document = run_document(bundle, network, images, trace, wall_time_s, arithmetic=arithmetic, dtype=dtype)
    document |= {"skip": skip, "backend": backend, "arithmetic": arithmetic, "gating": gating}
    document["cores"] = len(trace.activity.cores)
    if arithmetic == "float":
        document["dtype"] = dtype
    if backend == "lava":
        document |= {"runtime": runtime, "granularity": granularity}
    if output is not None:
        write_run(output, document, network, images, trace, form=form, force=force or resume)
    if as_json:
        emit_json(document)
        return
    numbers = dtype if arithmetic == "float" else "integers"
    click.echo(
        f"{trace.images} images on {backend} in {numbers}: accuracy {percent(document['accuracy'])}, "
        f"token ratio {percent(document['token_ratio'])}, {document['images_per_s']:.1f} images/s"
    )
    for note in document["notes"]:
        click.echo(f"note: {note}")
    if gating != "silent" and not network.graph.accumulators:
        click.echo(f"this network does not halt tokens: gating {gating} has no effect")
    if output is not None:
        click.echo(f"written to {output}")


def _without_first(images: LabelledImages, skip: int) -> LabelledImages:
    """Leave out the first images."""
    if skip >= len(images):
        raise InputError(f"--skip {skip} leaves none of {len(images)} images", "skip fewer")
    return images.select(slice(skip, None)) if skip else images
