"""``stas-export demo``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stas_neuro.assets import HALTING_MODEL, IMAGES, ONE_STEP_MODEL, ORDER_MODEL, asset
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
    from stas_neuro.bundle import Bundle
    from stas_neuro.data import LabelledImages
    from stas_neuro.energy import Comparison, Estimate, Saving
    from stas_neuro.ir import Graph
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
ORDER = _Model("order", "halting", f"models/{ORDER_MODEL}")
ORDER_STAGE1 = _Model("order-stage1", STAGE1.label, f"models/{ORDER_MODEL}/stage1")
PRICED = 16
"""Number of images that are run on the cores of each chip; savings are within 3 points of those on 64."""
CHIP = "loihi2"
"""The chip that bundles are placed for; prices on other chips place the networks again."""


@dataclass(frozen=True)
class _Compared:
    """A model with halting and others without it, on the same images, placed on each chip.

    Parameters
    ----------
    images : LabelledImages
        With labels numbered as the models number classes.
    traces : mapping of label to Trace
        The first is the one with halting.
    fastest : Comparison
        Each model on the fastest schedule it allows, such as raster with halting, and pipelined without.
    raster : Comparison or None
        Stage 1 in raster order too, which excludes the cost of giving up pipelining; None where halting does
        not give it up.
    """

    images: LabelledImages
    traces: Mapping[str, Trace]
    fastest: Comparison
    raster: Comparison | None

    def accuracy(self, label: str) -> float | None:
        """Return the share of the images that a model classifies correctly."""
        from stas_neuro import api

        return api.accuracy(self.traces[label], self.images, self.images.classes)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists for `json.dumps`."""
        return {
            "images": len(self.images),
            "models": [
                {"model": label, "accuracy": self.accuracy(label), "token_ratio": trace.token_ratio}
                for label, trace in self.traces.items()
            ],
            "comparison": self.fastest.to_json(),
            "comparison_raster": None if self.raster is None else self.raster.to_json(),
        }


@dataclass(frozen=True)
class _Demonstration:
    directory: Path
    still: _Compared
    """The shipped model of still images."""
    in_time: _Compared
    """The shipped model of data in which time carries information."""
    certificate: Verification
    notes: tuple[str, ...]
    """Chips on which networks are priced without cores, and why."""
    wall_time_s: float


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
    """Compile, run, verify and price the shipped models: of still images, and of data in time.

    Runs the one of still images on Lava, verifies that torch, the reference and Lava agree spike by spike,
    and compares the prices of both, placed on the cores of every chip of the catalogue, with those of models
    without halting.
    """
    done = _demonstrate(output or Path(tempfile.mkdtemp(prefix="stas-demo-")), images, force)
    if as_json:
        emit_json(_document(done))
    else:
        _show(done)
    done.certificate.require()


def _demonstrate(directory: Path, count: int, force: bool) -> _Demonstration:
    from stas_neuro.data import load_data
    from stas_neuro.report.charts import check_installed, halting_chart, write_chart
    from stas_neuro.verifier import verify

    check_installed()
    begun = time.perf_counter()
    notes: dict[str, None] = {}
    with Output.marked(directory, PICTURE, force=force).filled() as fresh:
        place = _Place(fresh, directory)
        data = load_data(str(asset(IMAGES))).select(slice(0, count))
        halting = _run(HALTING, data, place, backend="lava")
        with progress("comparing spikes") as report:
            certificate = verify(fresh / "halting.stas", data, limit=VERIFIED, progress=report)
        still = _compare(data, (HALTING, halting), BASELINES, place, notes)
        frames = load_data("order").select(slice(0, count))
        in_time = _compare(frames, (ORDER, _run(ORDER, frames, place)), (ORDER_STAGE1,), place, notes)
        captions = _captions(still.images, halting)
        chart = halting_chart(
            data.images[:DRAWN], halting.visits[:DRAWN], captions, run=f"{HALTING_MODEL} on Lava"
        )
        write_chart(fresh / PICTURE, chart)
    return _Demonstration(
        directory=directory,
        still=still,
        in_time=in_time,
        certificate=certificate,
        notes=tuple(notes),
        wall_time_s=time.perf_counter() - begun,
    )


@dataclass(frozen=True)
class _Place:
    """Where files are written: to `fresh`, which becomes `directory`."""

    fresh: Path
    directory: Path

    def bundle(self, model: _Model) -> Bundle:
        """Read the bundle of a model that was run."""
        from stas_neuro.bundle import load_bundle

        return load_bundle(self.fresh / f"{model.name}.stas")


def _compare(
    data: LabelledImages,
    halting: tuple[_Model, Trace],
    baselines: Sequence[_Model],
    place: _Place,
    notes: dict[str, None],
) -> _Compared:
    """Run the baselines, and price all on every chip; the first baseline is stage 1."""
    from stas_neuro.chip_runs import ChipRuns, compare_on_chips, has_total, joined
    from stas_neuro.chips import list_profiles, load_profile
    from stas_neuro.energy import Deployment
    from stas_neuro.labels import match_classes

    model, trace = halting
    traces = {model.label: trace} | {each.label: _run(each, data, place) for each in baselines}
    own = model.label, place.bundle(model).graph
    others = {each.label: place.bundle(each).graph for each in baselines}
    images = match_classes(data, own[1].classes)
    runs, bare = (ChipRuns(images.select(slice(0, PRICED)), placed=placed) for placed in (True, False))
    profiles = [load_profile(name) for name in list_profiles()]

    def compared(without: Mapping[str, Graph], deployment: Deployment | None = None) -> Comparison:
        found = []
        with progress(f"pricing {model.name}") as report:
            for number, profile in enumerate(profiles):
                chosen = runs if has_total(profile) else bare
                found.append(compare_on_chips(chosen, own, without, [profile], deployment))
                report(number + 1, len(profiles))
        return joined(found)

    fastest, raster = compared(others), None
    if fastest.rows[0].schedule == "raster":
        first = baselines[0].label
        raster = compared({first: others[first]}, Deployment(schedule="raster"))
    notes |= runs.notes
    return _Compared(images, traces, fastest, raster)


def _run(model: _Model, data: LabelledImages, place: _Place, backend: str = "reference") -> Trace:
    """Compile a model and run it."""
    from stas_neuro import api
    from stas_neuro.bundle import save_bundle
    from stas_neuro.cli.runs import run_document, write_run
    from stas_neuro.compiler import compile

    checkpoint, name = asset(model.checkpoint), f"{model.name}.stas"
    bits = BITS if model is HALTING else None
    made = compile(checkpoint, accumulate=model.accumulate, bits=bits, placement="token-major", profile=CHIP)
    save_bundle(
        made.graph, place.fresh / name, made.provenance, quantised=made.quantised, mapping=made.mapping
    )
    bundle = place.bundle(model)
    begun = time.perf_counter()
    with progress(f"running {model.name} on {backend}") as report:
        trace = api.run(bundle, data, backend=backend, progress=report)
    seconds = time.perf_counter() - begun
    document = run_document(
        place.directory / name, bundle, data, trace, seconds, arithmetic="float", dtype="float64"
    )
    document |= {"backend": backend, "dtype": "float64"}
    write_run(place.fresh / "runs" / model.name, document, bundle, data, trace, force=False)
    return trace


def _captions(data: LabelledImages, trace: Trace) -> list[str]:
    assert data.labels is not None
    pairs = zip(trace.predictions[:DRAWN], data.labels[:DRAWN], strict=True)
    return [f"{data.classes[predicted]} (label: {data.classes[label]})" for predicted, label in pairs]


def _document(done: _Demonstration) -> dict[str, Any]:
    return {
        "directory": str(done.directory),
        "halting_map": str(done.directory / PICTURE),
        **done.still.to_json(),
        "in_time": done.in_time.to_json(),
        "verification": done.certificate.to_json(),
        "notes": list(done.notes),
        "wall_time_s": done.wall_time_s,
    }


def _show(done: _Demonstration) -> None:
    from stas_neuro.cli.verify import show as show_certificate
    from stas_neuro.energy import disclaimer_of
    from stas_neuro.energy.pricing import OP_COUNT
    from stas_neuro.report import comparison_what_if, predictions_table
    from stas_neuro.report.tables import disclaimer

    still = done.still
    click.echo(f"1. The model {HALTING_MODEL}, compiled and run on Lava:")
    emit(
        predictions_table(
            still.traces[HALTING.label], still.images.labels, still.images.classes, limit=LISTED
        )
    )
    click.echo(
        f"\n2. Agreement of torch, the reference and Lava, spike by spike on {VERIFIED} images, and of the "
        f"{BITS}-bit integer program that a chip would run:"
    )
    show_certificate(done.certificate)
    priced = min(len(still.images), PRICED)
    click.echo(f"3. Energy per image, mean of {priced}, and the energy saved by halting:")
    _show_costs(still)
    click.echo(f"4. The same of the model {ORDER_MODEL}: data in which time carries information:")
    _show_costs(done.in_time)
    click.echo("Networks are placed on the fewest cores of each chip, and priced on these; * are not.")
    for note in done.notes:
        click.echo(note)
    click.echo("* energy of events only: no total, as static power, times or cores are not published.")
    for line in comparison_what_if(still.fastest):
        click.echo(line)
    click.echo(f"{OP_COUNT} is the operation count used in the literature, without time and static power.")
    click.echo("Brackets contain the interval from low to high.")
    found = (still.fastest, still.raster, done.in_time.fastest, done.in_time.raster)
    estimates = [cost for each in found if each is not None for cost in each.estimates]
    emit(disclaimer(disclaimer_of(cost.figures for cost in estimates)))
    click.echo(f"\n5. Where tokens halt: {done.directory / PICTURE}")
    runs = done.directory / "runs"
    click.echo(
        f"\n{done.wall_time_s:.0f} s. Bundles and runs are in {done.directory}; next:\n"
        f"  stas-export inspect {done.directory / 'halting.stas'}\n"
        f"  stas-export estimate {runs / HALTING.name} --profile {CHIP}\n"
        f"  stas-export compare {runs / HALTING.name} --baseline {runs / STAGE1.name} --profiles {CHIP}"
    )


def _show_costs(done: _Compared) -> None:
    """Print the models, their energies by chip, and the energy that halting saves relative to each."""
    accuracies = {label: percent(done.accuracy(label)) for label in done.traces}
    ratios = {label: percent(trace.token_ratio) for label, trace in done.traces.items()}
    # With raster halting each step depends on the one before, so steps cannot overlap; the others can.
    baselines = _by_baseline(done.fastest) + ([] if done.raster is None else _by_baseline(done.raster))
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
