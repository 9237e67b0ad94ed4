"""``stas-export compile``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from stas_neuro import api
from stas_neuro.bundle import Bundle, bundle_output, load_bundle, save_bundle
from stas_neuro.cli.common import (
    PATH,
    emit,
    emit_json,
    force_option,
    halting_words,
    progress,
    stas_command,
    summary,
    weight_bits_option,
)
from stas_neuro.data import LabelledImages, data_path, load_data
from stas_neuro.energy import MissingEntry, load_profile
from stas_neuro.energy.profile import profile_path
from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.stock import lower_stock, round_synaptic_biases
from stas_neuro.files import check_outputs
from stas_neuro.ir import Encoding, Graph, Stage
from stas_neuro.labels import bias_of_first
from stas_neuro.mapping import Mapping
from stas_neuro.models.config import ACCUMULATIONS, READOUTS
from stas_neuro.passes import SCHEDULES, run_passes, schedule_decisions
from stas_neuro.placement import OBJECTIVES, STRATEGIES, Objective, Strategy, place, utilisation
from stas_neuro.preflight import Verdict, check
from stas_neuro.quantisation import SAMPLE_IMAGES, load_scales, quantise
from stas_neuro.report import cannot_take
from stas_neuro.report.placement import utilisation_report

PROFILE_IMAGES = 2000
"""Images of a profiling run, if not told: the choice of groups has settled by then."""
LOST = {
    "zero weights": "all weights of {used} of {limit} output channels are 0",
    "lost weights": "{used} of its {limit} weights became 0",
}
"""Findings of which compiling warns, and how: the weights are not those of the model."""
LISTED = 8
"""Warnings in the text; JSON has all."""


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
@weight_bits_option(
    "--bits",
    metavar="N",
    text="Also make the integer program, with weights of 2 to 9 bits; a fine-tuned model knows its own.",
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
def command(
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
    reads = [model, data_path(calibrate), data_path(profile_run), profile_path(profile)]
    check_outputs([bundle_output(output, force=force)], reads=reads)
    chip = profile or "loihi2"
    graph = api.compile(model, accumulate=accumulate, epsilon=epsilon, readout=readout)
    options: dict[str, Any] = {"accumulate": accumulate, "epsilon": epsilon, "readout": readout}
    if late is not None and schedule is None:
        raise InputError("--late is of --schedule pipelined-stale", "give that schedule too")
    as_trained = graph
    if schedule is not None:
        graph = schedule_decisions(as_trained, schedule, late)
        options |= {"schedule": schedule, "late": summary(graph)["late"] or None}
    tuned = load_scales(model)
    quantised = None
    notes: list[str] = []
    for_integers = profile if placement is None or bits is not None else None
    chosen = {"--calibrate": calibrate, "--profile": for_integers, "--input-encoding": input_encoding}
    given = [name for name, value in chosen.items() if value is not None]
    if bits is None and given:
        what = f"{given[0]} says how to make integers, and no --bits is given"
        remedy = "give --bits; without it a fine-tuned model is compiled as it was trained"
        raise InputError(what, remedy if tuned else "give --bits")
    if tuned is not None and not given and bits in (None, tuned.bits):
        quantised = run_passes(as_trained, [tuned])
        options["bits"] = tuned.bits
    elif bits is not None:
        target = load_profile(chip)
        arithmetic = target.arithmetic
        if arithmetic is None:
            why = target.no_arithmetic
            what = f"{target.name} has no cores for our integers: {why}"
            raise InputError(what, "use loihi1 or loihi2")
        sample = None if calibrate is None else load_data(calibrate, "train")
        if sample is not None and (bias := bias_of_first(sample, SAMPLE_IMAGES)):
            notes.append(f"--calibrate: {bias}")
        quantised = quantise(
            as_trained,
            sample,
            bits=bits,
            arithmetic=arithmetic,
            encoding=input_encoding or "graded",
        )
        options |= {
            "bits": bits,
            "calibrate": calibrate,
            "profile": chip,
            "input_encoding": input_encoding or "graded",
        }
    if quantised is not None and schedule is not None:
        # After quantisation: what a sample shows is that of the network as trained, so that scales, and with
        # them weights, are the same in every schedule.
        quantised = schedule_decisions(quantised, schedule, late)
    if lowering == "stock":
        if quantised is None:
            raise InputError("--lowering stock is of an integer program", "give --bits too")
        quantised = round_synaptic_biases(quantised)
        lower_stock(quantised)  # what stock processes cannot express is told here
        options["lowering"] = lowering
    asked = {"groups": groups, "minimise": minimise, "profile_run": profile_run, "limit": limit}
    mapping = None
    if placement is not None:
        learnt_from = profile_run or calibrate
        if minimise is not None and placement != "halting-aware":
            raise InputError(f"--minimise is of halting-aware, not of {placement}", "leave it out")
        if limit is not None and learnt_from is None:
            raise InputError("--limit is of --profile-run", "give that too")
        seen = None if learnt_from is None else load_data(learnt_from, "train")
        count = limit or PROFILE_IMAGES
        if seen is not None and (bias := bias_of_first(seen, count)):
            notes.append(f"profiling run: {bias}")
        mapping = _place(quantised or graph, chip, placement, groups, minimise, seen, count)
        options |= {"placement": placement, "profile": chip, **asked, "profile_run": learnt_from}
    elif any(value is not None for value in asked.values()):
        name = next(name for name, value in asked.items() if value is not None).replace("_", "-")
        raise InputError(f"--{name} is of --placement", "give a --placement too")
    origin = api.provenance(model, **options)
    save_bundle(graph, output, origin, quantised=quantised, mapping=mapping, force=force)
    bundle = load_bundle(output)
    verdict, unknown = None, None
    if quantised is not None or mapping is not None:
        verdict, unknown = _judge(bundle, chip)
    beside = [node.name for node in quantised.nodes if node.off_core] if quantised else []
    facts = summary(graph) | {"bits": options.get("bits"), "off_core": beside, "notes": notes}
    if mapping is not None:
        facts |= {"cores": len(mapping.cores), "chips": mapping.chips, "groups": mapping.groups}
    if as_json:
        document = {
            "bundle": str(output),
            "sha256": bundle.sha256,
            "source": origin.source,
            "source_sha256": origin.source_sha256,
            "options": origin.options,
            "check": None if verdict is None else asdict(verdict),
            "check_unknown": unknown,
        }
        emit_json(document | facts)
        return
    click.echo(
        f"{output}: {facts['nodes']} nodes, {facts['parameters']} parameters, {facts['blocks']} blocks x "
        f"{facts['time_steps']} time steps on {facts['tokens']} tokens, {len(facts['classes'])} classes, "
        f"halting {halting_words(facts)}"
    )
    for note in notes:
        click.echo(f"note: {note}")
    if quantised is not None:
        click.echo(
            f"integer program with weights of {facts['bits']} bits; "
            + (f"off the cores: {', '.join(beside)}" if beside else "all of it on the cores")
        )
    if mapping is not None:
        emit(utilisation_report(utilisation(quantised or graph, mapping, load_profile(chip))))
    if unknown is not None:
        click.echo(f"whether {chip} can take it is not known: {unknown}")
    if verdict is not None:
        _show(verdict, f"stas-export check {output} --profile {chip} lists all")


def _judge(bundle: Bundle, chip: str) -> tuple[Verdict | None, str | None]:
    """Check whether the chip that a bundle was compiled for can take it; why nobody knows, else."""
    try:
        (verdict,) = check(bundle, [chip]).verdicts
    except MissingEntry as error:
        return None, str(error)
    return verdict, None


def _show(verdict: Verdict, where: str) -> None:
    """Say that the chip cannot take the network, if so, and which layers lost weights on the way to it."""
    if errors := [finding for finding in verdict.findings if finding.severity == "error"]:
        refused = cannot_take(verdict.profile, "this network", errors)
        click.echo(f"{refused}; what a run or a price tells of it there is a what-if; {where}")
    lost = [finding for finding in verdict.findings if finding.resource in LOST]
    for finding in lost[:LISTED]:
        what = LOST[finding.resource].format(used=finding.used, limit=finding.limit)
        click.echo(f"warning: {finding.layer}: {what}; {finding.remedy}")
    if len(lost) > LISTED:
        click.echo(f"and {len(lost) - LISTED} more such warnings; {where}")


def _place(
    graph: Graph,
    chip: str,
    strategy: Strategy,
    groups: int | None,
    minimise: Objective | None,
    images: LabelledImages | None,
    limit: int,
) -> Mapping:
    """Put a network on the cores of a chip, after a run that shows what it does."""
    seen = None
    if images is not None:
        arithmetic = "fixed" if graph.stage == Stage.QUANTISED else "float"
        with progress("profiling run") as told:
            seen = api.run(
                graph,
                images,
                arithmetic=arithmetic,
                dtype=np.float32 if arithmetic == "float" else np.float64,
                limit=limit,
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
