"""``stas-export compile``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from stas_neuro import api
from stas_neuro.bundle import load_bundle, save_bundle
from stas_neuro.cli.common import (
    PATH,
    emit,
    emit_json,
    force_option,
    halting_words,
    progress,
    stas_command,
    summary,
)
from stas_neuro.data import load_data
from stas_neuro.energy import load_profile
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.stock import lower_stock, round_synaptic_biases
from stas_neuro.ir import Encoding, Graph, Stage
from stas_neuro.mapping import Mapping
from stas_neuro.models.config import ACCUMULATIONS, READOUTS
from stas_neuro.passes import SCHEDULES, run_passes, schedule_decisions
from stas_neuro.placement import OBJECTIVES, STRATEGIES, Objective, Strategy, place, utilisation
from stas_neuro.quantisation import load_scales, quantise
from stas_neuro.report.placement import utilisation_report

PROFILE_IMAGES = 2000
"""Images of a profiling run, if not told: the choice of groups has settled by then."""


@stas_command(
    "stas-export compile runs/digits -o digits.stas",
    "stas-export compile runs/digits --bits 8 --calibrate digits --profile loihi2 -o digits-8bit.stas",
    "stas-export compile runs/digits --accumulate off -o digits-without-halting.stas",
    "stas-export compile runs/digits --placement halting-aware --profile-run digits -o digits-on-cores.stas",
)
@click.argument("model", type=PATH)
@click.option(
    "-o",
    "--output",
    required=True,
    type=PATH,
    metavar="BUNDLE",
    help="Directory to write, or a file ending in .zip.",
)
@click.option(
    "--accumulate",
    type=click.Choice(ACCUMULATIONS),
    help="Over what halting scores add up, instead of as trained; off ignores halting.",
)
@click.option("--epsilon", type=float, metavar="E", help="A token halts at 1 - E, instead of as trained.")
@click.option("--readout", type=click.Choice(READOUTS), help="What the head sees, instead of as trained.")
@click.option(
    "--bits",
    type=click.IntRange(1, 9),
    metavar="N",
    help="Also make the integer program, with weights of 1 to 9 bits; a fine-tuned model knows its own.",
)
@click.option(
    "--calibrate",
    metavar="DATA",
    help="Images to choose scales by, as --data of run; of a known data set its training images.",
)
@click.option(
    "--profile",
    metavar="NAME|FILE",
    help="Chip whose integers they have to be, and whose cores --placement fills.  [default: loihi2]",
)
@click.option(
    "--input-encoding",
    type=click.Choice(("graded", "bias")),
    help="Pixels come as graded spikes, or what the first layer makes of them as biases.  [default: graded]",
)
@click.option(
    "--lowering",
    type=click.Choice(api.LOWERINGS),
    default="own",
    show_default=True,
    help="stock: a program for run --lowering stock, biases rounded to what its synapses can bring.",
)
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    help="What halting decides by: all scores, or with pipelined-stale those that a pipeline has by then.",
)
@click.option(
    "--late",
    type=click.IntRange(min=1),
    metavar="D",
    help="Hardware steps by which pipelined-stale begins model steps early.  [default: all but one]",
)
@click.option(
    "--placement",
    type=click.Choice(STRATEGIES),
    help="Also put it on the chip's cores: by channels, by tokens, or by tokens that halt together.",
)
@click.option(
    "--groups",
    type=click.IntRange(min=1),
    metavar="G",
    help="Groups that --placement cuts each block into.  [default: as many as take the fewest cores]",
)
@click.option(
    "--minimise",
    type=click.Choice(OBJECTIVES),
    help="What halting-aware groups are chosen by.  [default: core-steps]",
)
@click.option(
    "--profile-run",
    metavar="DATA",
    help="Images to learn from which tokens halt together, as --calibrate, which is taken if not given.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Take the first N images of --profile-run.  [default: {PROFILE_IMAGES}]",
)
@force_option
def command(  # noqa: C901, PLR0912, PLR0915
    model: Path,
    output: Path,
    accumulate: str | None,
    epsilon: float | None,
    readout: str | None,
    bits: int | None,
    calibrate: str | None,
    profile: str | None,
    input_encoding: Encoding | None,
    lowering: str,
    schedule: str | None,
    late: int | None,
    placement: Strategy | None,
    groups: int | None,
    minimise: Objective | None,
    profile_run: str | None,
    limit: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compile MODEL, a checkpoint directory, to a bundle.

    A bundle holds the graph with every normalisation folded, its weights, and where they come from. To run it
    takes numpy, and Lava if asked for, but not torch. With --bits it also holds the integer program that a
    chip would run.
    """
    graph = api.compile(model, accumulate=accumulate, epsilon=epsilon, readout=readout)
    options: dict[str, Any] = {"accumulate": accumulate, "epsilon": epsilon, "readout": readout}
    if late is not None and schedule is None:
        raise InputError("--late is of --schedule pipelined-stale", "give that schedule too")
    if schedule is not None:
        graph = schedule_decisions(graph, schedule, late)
        options |= {"schedule": schedule, "late": summary(graph)["late"] or None}
    tuned = load_scales(model)
    quantised = None
    for_integers = profile if placement is None or bits is not None else None
    chosen = {"--calibrate": calibrate, "--profile": for_integers, "--input-encoding": input_encoding}
    given = [name for name, value in chosen.items() if value is not None]
    if bits is None and given:
        what = f"{given[0]} says how to make integers, and no --bits is given"
        remedy = "give --bits; without it a fine-tuned model is compiled as it was trained"
        raise InputError(what, remedy if tuned else "give --bits")
    if tuned is not None and not given and bits in (None, tuned.bits):
        quantised = run_passes(graph, [tuned])
        options["bits"] = tuned.bits
    elif bits is not None:
        target = load_profile(profile or "loihi2")
        arithmetic = target.arithmetic
        if arithmetic is None:
            why = target.no_arithmetic
            what = f"{target.name} has no cores for our integers: {why}"
            raise InputError(what, "use loihi1 or loihi2")
        quantised = quantise(
            graph,
            None if calibrate is None else load_data(calibrate, "train"),
            bits=bits,
            arithmetic=arithmetic,
            encoding=input_encoding or "graded",
        )
        options |= {
            "bits": bits,
            "calibrate": calibrate,
            "profile": profile or "loihi2",
            "input_encoding": input_encoding or "graded",
        }
    if lowering == "stock":
        if quantised is None:
            raise InputError("--lowering stock is of an integer program", "give --bits too")
        quantised = round_synaptic_biases(quantised)
        lower_stock(quantised)  # what stock processes cannot express is told here
        options["lowering"] = lowering
    asked = {"groups": groups, "minimise": minimise, "profile_run": profile_run, "limit": limit}
    mapping = None
    if placement is not None:
        chip = profile or "loihi2"
        learnt_from = profile_run or calibrate
        if minimise is not None and placement != "halting-aware":
            raise InputError(f"--minimise is of halting-aware, not of {placement}", "leave it out")
        if limit is not None and learnt_from is None:
            raise InputError("--limit is of --profile-run", "give that too")
        mapping = _place(quantised or graph, chip, placement, groups, minimise, learnt_from, limit)
        options |= {"placement": placement, "profile": chip, **asked, "profile_run": learnt_from}
    elif any(value is not None for value in asked.values()):
        name = next(name for name, value in asked.items() if value is not None).replace("_", "-")
        raise InputError(f"--{name} is of --placement", "give a --placement too")
    origin = api.provenance(model, **options)
    save_bundle(graph, output, origin, quantised=quantised, mapping=mapping, force=force)
    beside = [node.name for node in quantised.nodes if node.off_core] if quantised else []
    facts = summary(graph) | {"bits": options.get("bits"), "off_core": beside}
    if mapping is not None:
        facts |= {"cores": len(mapping.cores), "chips": mapping.chips, "groups": mapping.groups}
    if as_json:
        document = {"bundle": str(output), "sha256": load_bundle(output).sha256, "source": origin.source}
        document |= {"source_sha256": origin.source_sha256, "options": origin.options}
        emit_json(document | facts)
        return
    click.echo(
        f"{output}: {facts['nodes']} nodes, {facts['parameters']} parameters, {facts['blocks']} blocks x "
        f"{facts['time_steps']} time steps on {facts['tokens']} tokens, {len(facts['classes'])} classes, "
        f"halting {halting_words(facts)}"
    )
    if quantised is not None:
        click.echo(
            f"integer program with weights of {facts['bits']} bits; "
            + (f"off the cores: {', '.join(beside)}" if beside else "all of it on the cores")
        )
    if mapping is not None:
        emit(utilisation_report(utilisation(quantised or graph, mapping, load_profile(chip))))


def _place(
    graph: Graph,
    chip: str,
    strategy: Strategy,
    groups: int | None,
    minimise: Objective | None,
    data: str | None,
    limit: int | None,
) -> Mapping:
    """Put a network on the cores of a chip, after a run that shows what it does."""
    seen = None
    if data is not None:
        arithmetic = "fixed" if graph.stage == Stage.QUANTISED else "float"
        images = load_data(data, "train")
        with progress("profiling run") as told:
            seen = api.run(
                graph,
                images,
                arithmetic=arithmetic,
                dtype=np.float32 if arithmetic == "float" else np.float64,
                limit=limit or PROFILE_IMAGES,
                progress=told,
            ).activity
    return place(
        graph,
        load_profile(chip),
        strategy=strategy,
        groups=groups,
        seen=seen,
        minimise=minimise or "core-steps",
    )
