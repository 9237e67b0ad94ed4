"""``stas-export baseline``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stas_neuro.choices import ARITHMETICS, GATINGS
from stas_neuro.cli.common import (
    PATH,
    directory_option,
    emit_json,
    emit_table,
    force_option,
    max_drop_option,
    percent,
    progress,
    stas_command,
)
from stas_neuro.cli.models import labelled_models, rivals_option
from stas_neuro.documents import shown
from stas_neuro.errors import InputError
from stas_neuro.files import Output, check_outputs

if TYPE_CHECKING:
    from stas_neuro.baselines import Baseline, RunOptions
    from stas_neuro.bundle import Bundle
    from stas_neuro.data import LabelledImages

MARK = "baselines.json"
"""File of the output with what was made, and why other baselines were not."""
_OF_RUN = ("backend", "arithmetic", "dtype", "runtime", "granularity")
"""Fields of a run's document that are options of how it ran."""


@stas_command(
    "stas-export baseline runs/mine -o runs/mine-baselines",
    'stas-export baseline runs/mine --rival "T=1"=runs/one-step --held-back fashion-mnist -o runs/others',
)
@click.argument("run", metavar="RUN", type=PATH)
@directory_option("Directory for bundles and runs.")
@click.option(
    "--data", metavar="DATA", help="Images of RUN.  [default: the data that RUN names, in the same place]"
)
@click.option(
    "--held-back",
    metavar="DATA",
    help="Images to choose the number of steps with, the first 256; uses the training images of a known data "
    "set.  [default: those of the same data that follow the images of RUN]",
)
@max_drop_option("Largest loss of accuracy by fewer steps on these, as 1% or 0.01.  [default: 1%]")
@rivals_option(
    "Another model without halting to run beside, such as one trained for one time step; can be repeated."
)
@force_option
def command(
    run: Path,
    output: Path,
    data: str | None,
    held_back: str | None,
    max_drop: float | None,
    rivals: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Make and run the baselines of RUN: the networks without halting that it is compared with.

    They are the same weights without halting, the model of stage 1, the fewest time steps that lose no
    accuracy, and one time step. Each is compiled with the options of RUN's bundle (bits, scales, placement)
    and run as RUN was (images, backend, arithmetic). Prints the command that compares RUN with them.
    """
    from stas_neuro.baselines import HELD_BACK, check_rivals, held_back_images, make_baselines
    from stas_neuro.bundle import load_bundle
    from stas_neuro.cli.runs import read_run
    from stas_neuro.compiler.halting import MAX_DROP
    from stas_neuro.data import data_path, load_data
    from stas_neuro.energy import check_alike

    written = Output.marked(output, MARK, force=force)
    others = labelled_models(rivals)
    check_rivals(others, taken=[run.resolve().name])
    document = _document(run)
    bundle_path, spec = Path(document["bundle"]), document["data"] if data is None else data
    reads = [run, bundle_path, data_path(spec), data_path(held_back), *others.values()]
    check_outputs([written], reads=reads)
    bundle = load_bundle(bundle_path)
    if dict(bundle.sha256) != document["bundle_sha256"]:
        raise InputError(
            f"{bundle_path} has changed since {run} was made", f"run it again: {_again(document)}"
        )
    first = document["skip"]
    end = first + document["images"]
    images = load_data(spec).select(slice(first, end))
    if held_back is None:
        chosen_on = held_back_images(spec, end)
    else:
        chosen_on = load_data(held_back, "train").select(slice(0, HELD_BACK))
    ours = read_run(run)
    options = _options(document, per_image=ours.whole is None)
    with progress("baselines", at_once=True) as report:
        found = make_baselines(
            bundle,
            images,
            held_back=chosen_on,
            max_drop=MAX_DROP if max_drop is None else max_drop,
            rivals=others,
            options=options,
            report=lambda what, done, total: report(done, total, f"images ({what})"),
        )
    # Check what compare checks: images, arithmetic, processes and cores are those of the run.
    check_alike({str(run): ours, **{each.label: each.trace.activity for each in found.made}})
    rows = [_row(each, output, images) for each in found.made]
    made = {"run": str(run), "baselines": rows, "missing": dict(found.missing)}
    made["compare"] = shlex.join(
        ["stas-export", "compare", str(run)]
        + [word for row in rows for word in ("--baseline", f"{row['label']}={row['run']}")]
    )
    with written.filled() as fresh:
        for each, row in zip(found.made, rows, strict=True):
            _write(each, fresh, row, document, images)
        (fresh / MARK).write_text(json.dumps(made, indent=1, allow_nan=False) + "\n")
    if as_json:
        emit_json(made)
        return
    columns = ("baseline", "steps", "accuracy", "held-back accuracy", "run")
    shown = [
        (row["label"], row["steps"], percent(row["accuracy"]), percent(row["held_back"]), row["run"])
        for row in rows
    ]
    accuracy = f"accuracy {percent(document.get('accuracy'))}"
    emit_table(columns, shown, f"Baselines of {run.resolve().name}: {accuracy}, {document['images']} images")
    for label, why in found.missing.items():
        click.echo(f"no {label}: {why}")
    click.echo(f"\n{made['compare']}")


def _document(run: Path) -> dict[str, Any]:
    """Read the document of a run; InputError if it is none, or its tokens do not halt."""
    from stas_neuro.cli.runs import FORMAT, RUN_FILE, SCHEMA_VERSION, require_run, skipped
    from stas_neuro.files import check_version, json_object, read_bytes

    remedy = "give a directory that stas-export run wrote"
    require_run(run)
    where = str(run / RUN_FILE)
    document = json_object(read_bytes(run / RUN_FILE), where, remedy)
    if document.get("format") != FORMAT:
        raise InputError(f"{where}: format is {document.get('format')!r}, not {FORMAT!r}", remedy)
    check_version(document, SCHEMA_VERSION, where)
    valid: Mapping[str, Callable[[Any], bool]] = {
        "bundle": lambda value: isinstance(value, str),
        "bundle_sha256": lambda value: isinstance(value, dict),
        "data": lambda value: isinstance(value, str),
        "images": lambda value: type(value) is int and value > 0,
        "cores": lambda value: type(value) is int and value >= 0,
        "gating": lambda value: value in tuple(GATINGS),
        "arithmetic": lambda value: value in ARITHMETICS,
        "accuracy": lambda value: value is None or type(value) in (int, float),
    }
    for name, is_valid in valid.items():
        if not is_valid(document.get(name)):
            raise InputError(f"{where}: {name} is {shown(repr(document.get(name)))}", remedy)
    return document | {"skip": skipped(document, where)}


def _again(document: Mapping[str, Any]) -> str:
    """Return the command that makes a run again."""
    given = {"skip": document["skip"], "limit": document["images"], "gating": document["gating"]}
    given |= {name: document[name] for name in _OF_RUN if name in document}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return shlex.join(
        ["stas-export", "run", document["bundle"], "--data", document["data"], *words, "-o", "RUN"]
    )


def _options(document: Mapping[str, Any], *, per_image: bool) -> RunOptions:
    from stas_neuro.baselines import RunOptions

    given = {name: document[name] for name in _OF_RUN if name in document}
    cores = document["cores"] > 0
    return RunOptions(**given, gating=document["gating"], cores=cores, per_image=per_image)


def _row(baseline: Baseline, output: Path, images: LabelledImages) -> dict[str, Any]:
    from stas_neuro.api import accuracy
    from stas_neuro.baselines import file_name

    name = file_name(baseline.label)
    return {
        "label": baseline.label,
        "steps": baseline.steps,
        "accuracy": accuracy(baseline.trace, images, baseline.bundle.graph.classes),
        "held_back": baseline.held_back,
        "bundle": str(output / f"{name}.stas"),
        "run": str(output / name),
    }


def _write(
    baseline: Baseline,
    fresh: Path,
    row: Mapping[str, Any],
    document: Mapping[str, Any],
    images: LabelledImages,
) -> None:
    """Write the bundle and the run of a baseline, with the fields that the halting run has."""
    from stas_neuro.bundle import load_bundle, save_bundle
    from stas_neuro.cli.runs import run_document, write_run

    made, place = baseline.bundle, fresh / Path(row["bundle"]).name
    save_bundle(made.graph, place, made.provenance, quantised=made.quantised, mapping=made.mapping)
    bundle: Bundle = load_bundle(place)
    own = run_document(
        Path(row["bundle"]),
        bundle,
        images,
        baseline.trace,
        baseline.wall_time_s,
        arithmetic=document["arithmetic"],
        dtype=document.get("dtype", "float64"),
    )
    own |= {name: document[name] for name in (*_OF_RUN, "skip") if name in document}
    own |= {"gating": baseline.gating, "cores": len(baseline.trace.activity.cores)}
    write_run(fresh / Path(row["run"]).name, own, bundle, images, baseline.trace, force=False)
