"""``stas-export demo``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stas_neuro.assets import HALTING_MODEL, IMAGES, ONE_STEP_MODEL, asset
from stas_neuro.cli.common import (
    PATH,
    emit,
    emit_json,
    emit_table,
    force_option,
    percent,
    progress,
    stas_command,
)
from stas_neuro.files import Output

if TYPE_CHECKING:
    from stas_neuro.data import LabelledImages
    from stas_neuro.energy import Comparison, Estimate, Saving
    from stas_neuro.trace import Trace
    from stas_neuro.verifier import Verification

VERIFIED = 8
"""Number of images that the demo compares spike by spike."""
BITS = 8
"""Bits of a weight in the demo's integer program."""
DRAWN = 4
"""Number of images in the picture of where tokens halt."""
LISTED = 8
PICTURE = "halting.png"


@dataclass(frozen=True)
class _Model:
    """A model that the demo runs; `name` names its bundle and its run."""

    name: str
    label: str
    checkpoint: str
    accumulate: str | None = None


HALTING = _Model("halting", "halting", f"models/{HALTING_MODEL}")
STAGE1 = _Model("stage1", "stage 1, without halting", f"models/{HALTING_MODEL}/stage1")
BASELINES = (
    STAGE1,
    _Model("ignored", "same weights, halting ignored", f"models/{HALTING_MODEL}", "off"),
    _Model("one-step", "trained for one time step", f"models/{ONE_STEP_MODEL}"),
)


@dataclass(frozen=True)
class _Demonstration:
    directory: Path
    images: LabelledImages
    """With labels numbered as the models number classes."""
    traces: Mapping[str, Trace]
    """Traces by label; the first is the one with halting."""
    certificate: Verification
    fastest: Comparison
    """Each model on the fastest schedule it allows: halting is raster, the others are pipelined."""
    raster: Comparison
    """The same with stage 1 in raster order too, which excludes the cost of giving up pipelining."""
    wall_time_s: float

    def accuracy(self, label: str) -> float | None:
        """Return the share of the images that a model classifies correctly."""
        from stas_neuro import api

        return api.accuracy(self.traces[label], self.images, self.images.classes)


@stas_command("stas-export demo", "stas-export demo --images 128 -o demo")
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="DIR",
    help="Directory for the bundles, the runs and the picture.  [default: a new temporary one]",
)
@click.option(
    "--images",
    type=click.IntRange(min=1, max=512),
    default=64,
    show_default=True,
    metavar="N",
    help="Test images to classify on Lava.",
)
@force_option
def command(output: Path | None, images: int, force: bool, as_json: bool) -> None:
    """Compile, run, verify and price the shipped model, trained on Fashion-MNIST.

    Runs it on Lava, verifies that torch, the reference and Lava agree spike by spike, and compares its price
    on every chip of the catalogue with that of models without halting.
    """
    done = _demonstrate(output or Path(tempfile.mkdtemp(prefix="stas-demo-")), images, force)
    if as_json:
        emit_json(_document(done))
    else:
        _show(done)
    done.certificate.require()


def _demonstrate(directory: Path, count: int, force: bool) -> _Demonstration:
    from stas_neuro.bundle import load_bundle
    from stas_neuro.chips import list_profiles, load_profile
    from stas_neuro.data import load_data
    from stas_neuro.energy import Deployment, compare
    from stas_neuro.labels import match_classes
    from stas_neuro.report import write_halting_map
    from stas_neuro.verifier import verify

    begun = time.perf_counter()
    with Output.marked(directory, PICTURE, force=force).filled() as fresh:
        data = load_data(str(asset(IMAGES))).select(slice(0, count))
        halting = _run(HALTING, data, fresh, directory, backend="lava")
        data = match_classes(data, load_bundle(fresh / "halting.stas").graph.classes)
        with progress("comparing spikes") as report:
            certificate = verify(fresh / "halting.stas", data, limit=VERIFIED, progress=report)
        without = {model.label: _run(model, data, fresh, directory) for model in BASELINES}
        captions = _captions(data, halting)
        write_halting_map(fresh / PICTURE, data.images[:DRAWN], halting.visits[:DRAWN], captions)
    profiles = [load_profile(name) for name in list_profiles()]
    baselines = {label: trace.activity for label, trace in without.items()}
    stage1 = {STAGE1.label: baselines[STAGE1.label]}
    return _Demonstration(
        directory=directory,
        images=data,
        traces={HALTING.label: halting, **without},
        certificate=certificate,
        fastest=compare(halting.activity, baselines, profiles),
        raster=compare(halting.activity, stage1, profiles, baseline=Deployment(schedule="raster")),
        wall_time_s=time.perf_counter() - begun,
    )


def _run(
    model: _Model, data: LabelledImages, fresh: Path, directory: Path, backend: str = "reference"
) -> Trace:
    """Compile a model and run it; write both to `fresh`, which becomes `directory`."""
    from stas_neuro import api
    from stas_neuro.bundle import load_bundle, save_bundle
    from stas_neuro.cli.runs import run_document, write_run
    from stas_neuro.compiler import compile

    checkpoint, path = asset(model.checkpoint), fresh / f"{model.name}.stas"
    bits = BITS if model is HALTING else None
    made = compile(checkpoint, accumulate=model.accumulate, bits=bits)
    save_bundle(made.graph, path, made.provenance, quantised=made.quantised)
    bundle = load_bundle(path)
    begun = time.perf_counter()
    with progress(f"running {model.label} on {backend}") as report:
        trace = api.run(bundle, data, backend=backend, progress=report)
    seconds = time.perf_counter() - begun
    document = run_document(
        directory / path.name, bundle, data, trace, seconds, arithmetic="float", dtype="float64"
    )
    document |= {"backend": backend, "dtype": "float64"}
    write_run(fresh / "runs" / model.name, document, bundle, data, trace, force=False)
    return trace


def _captions(data: LabelledImages, trace: Trace) -> list[str]:
    assert data.labels is not None
    pairs = zip(trace.predictions[:DRAWN], data.labels[:DRAWN], strict=True)
    return [f"{data.classes[predicted]} ({data.classes[label]})" for predicted, label in pairs]


def _document(done: _Demonstration) -> dict[str, Any]:
    return {
        "directory": str(done.directory),
        "halting_map": str(done.directory / PICTURE),
        "images": len(done.images),
        "models": [
            {"model": label, "accuracy": done.accuracy(label), "token_ratio": trace.token_ratio}
            for label, trace in done.traces.items()
        ],
        "verification": done.certificate.to_json(),
        "comparison": done.fastest.to_json(),
        "comparison_raster": done.raster.to_json(),
        "wall_time_s": done.wall_time_s,
    }


def _show(done: _Demonstration) -> None:
    from stas_neuro.cli.verify import show as show_certificate
    from stas_neuro.energy import disclaimer_of
    from stas_neuro.energy.pricing import OP_COUNT
    from stas_neuro.report import comparison_what_if, predictions_table
    from stas_neuro.report.tables import disclaimer

    halting = done.traces[HALTING.label]
    click.echo(f"1. The model {HALTING_MODEL}, compiled and run on Lava:")
    emit(predictions_table(halting, done.images.labels, done.images.classes, limit=LISTED))
    click.echo(
        f"\n2. Agreement of torch, the reference and Lava, spike by spike on {VERIFIED} images, and of the "
        f"{BITS}-bit integer program that a chip would run:"
    )
    show_certificate(done.certificate)
    click.echo(f"3. Energy per image, mean of {len(done.images)}, and the energy saved by halting:")
    _show_costs(done)
    click.echo("* energy of events only: no total, as static power or times are not published.")
    for line in comparison_what_if(done.fastest):
        click.echo(line)
    click.echo(f"{OP_COUNT} is the operation count used in the literature, without time and static power.")
    click.echo("Brackets contain the interval from low to high.")
    estimates = (*done.fastest.estimates, *done.raster.estimates)
    emit(disclaimer(disclaimer_of(cost.figures for cost in estimates)))
    click.echo(f"\n4. Where tokens halt: {done.directory / PICTURE}")
    runs = done.directory / "runs"
    click.echo(
        f"\n{done.wall_time_s:.0f} s. Bundles and runs are in {done.directory}; next:\n"
        f"  stas-export inspect {done.directory / 'halting.stas'}\n"
        f"  stas-export estimate {runs / HALTING.name} --profile loihi2\n"
        f"  stas-export compare {runs / HALTING.name} --baseline {runs / STAGE1.name}"
    )


def _show_costs(done: _Demonstration) -> None:
    """Print the models, their energies by chip, and the energy that halting saves relative to each."""
    accuracies = {label: percent(done.accuracy(label)) for label in done.traces}
    ratios = {label: percent(trace.token_ratio) for label, trace in done.traces.items()}
    # With raster halting each step depends on the one before, so steps cannot overlap; the others can.
    baselines = _by_baseline(done.fastest) + _by_baseline(done.raster)
    halting = baselines[0]
    runs = [(HALTING.label, halting[0].schedule)]
    runs += [(rows[0].baseline, rows[0].baseline_schedule) for rows in baselines]
    facts = [(label, schedule, accuracies[label], ratios[label]) for label, schedule in runs]
    emit_table(("model", "schedule", "accuracy", "token ratio"), facts)
    headings = [f"{label} ({schedule})" for label, schedule in runs]
    costs = []
    for chip, row in enumerate(halting):
        without = (_energy(rows[chip].without) for rows in baselines)
        costs.append((row.profile, _energy(row.halting), *without))
    emit_table(("energy per image", *headings), costs)
    savings = [
        (halting[chip].profile, *(_saved(rows[chip]) for rows in baselines)) for chip in range(len(halting))
    ]
    emit_table(("energy saved by halting", *(f"relative to {heading}" for heading in headings[1:])), savings)


def _by_baseline(comparison: Comparison) -> list[list[Saving]]:
    """Group the rows of each baseline, in order of the profiles."""
    labels = dict.fromkeys(row.baseline for row in comparison.rows)
    return [[row for row in comparison.rows if row.baseline == label] for label in labels]


def _energy(cost: Estimate | None) -> str:
    from stas_neuro.report import si

    if cost is None or cost.dynamic_energy_j is None:
        return "-"  # not priced, or no event has a price
    if cost.energy_j is None:
        return f"{si(cost.dynamic_energy_j.value, 'J')} *"
    return si(cost.energy_j.value, "J")


def _saved(row: Saving) -> str:
    saving = row.energy_saving or row.dynamic_energy_saving
    return "-" if saving is None else f"{saving.value:+.1%} ({saving.low:+.1%} to {saving.high:+.1%})"
