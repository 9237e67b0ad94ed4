"""``stas-export compile``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stas_neuro.choices import (
    DEFAULT_PROFILE,
    OBJECTIVES,
    PROFILE_IMAGES,
    SCHEDULES,
    STRATEGIES,
    Objective,
    Strategy,
)
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
from stas_neuro.files import check_outputs
from stas_neuro.models.config import ACCUMULATIONS, READOUTS

if TYPE_CHECKING:
    from stas_neuro.bundle import Bundle
    from stas_neuro.checker import Verdict
    from stas_neuro.ir import Encoding

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
    help="Override the trained accumulation mode of halting scores; off ignores halting.",
)
@click.option(
    "--epsilon", type=float, metavar="E", help="Override the trained threshold: a token halts at 1 - E."
)
@click.option(
    "--readout", type=click.Choice(READOUTS), help="Override the trained readout, the input of the head."
)
@weight_bits_option(
    "--bits",
    metavar="N",
    text="Also make the integer program, with weights of 2 to 9 bits.  [default: the width that the model "
    "was fine-tuned with]",
)
@click.option(
    "--calibrate",
    metavar="DATA",
    help="Images on which scales are chosen, as --data of run; of a known data set the training images.",
)
@click.option(
    "--profile",
    metavar="NAME|FILE",
    help="Chip that the integers must fit, and whose cores --placement uses.  [default: loihi2]",
)
@click.option(
    "--input-encoding",
    type=click.Choice(("graded", "bias")),
    help="Pixels enter as graded spikes; or the processor computes the first layer, which enters as biases.  "
    "[default: graded]",
)
@click.option(
    "--backend",
    metavar="NAME",
    help="Make the integer program one that this backend of run takes: lava-stock rounds its biases.",
)
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    help="Which scores halting uses: all, or with pipelined-stale those that have arrived in a pipeline.",
)
@click.option(
    "--late",
    type=click.IntRange(min=1),
    metavar="D",
    help="Hardware steps by which decisions of pipelined-stale are late.  [default: all stages but one]",
)
@click.option(
    "--placement",
    type=click.Choice(STRATEGIES),
    help="Also place the network on cores: by channels, by tokens, or by tokens that halt together.",
)
@click.option(
    "--groups",
    type=click.IntRange(min=1),
    metavar="G",
    help="Groups into which --placement divides each block.  [default: those that need the fewest cores]",
)
@click.option(
    "--minimise",
    type=click.Choice(OBJECTIVES),
    help="What halting-aware placement minimises.  [default: core-steps]",
)
@click.option(
    "--profile-run",
    metavar="DATA",
    help="Images that show halting-aware placement which tokens halt together.  [default: --calibrate]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Use the first N images of --profile-run.  [default: {PROFILE_IMAGES}]",
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
    backend: str | None,
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
    from stas_neuro.bundle import bundle_output, load_bundle, save_bundle
    from stas_neuro.chips import load_profile
    from stas_neuro.chips.profile import profile_path
    from stas_neuro.compiler import CompileOptions, compile
    from stas_neuro.data import data_path
    from stas_neuro.placement import utilisation
    from stas_neuro.report.placement import utilisation_report

    reads = [model, data_path(calibrate), data_path(profile_run), profile_path(profile)]
    check_outputs([bundle_output(output, force=force)], reads=reads)
    options = CompileOptions(
        accumulate=accumulate,
        epsilon=epsilon,
        readout=readout,
        bits=bits,
        calibrate=calibrate,
        profile=profile,
        input_encoding=input_encoding,
        backend=backend,
        schedule=schedule,
        late=late,
        placement=placement,
        groups=groups,
        minimise=minimise,
        profile_run=profile_run,
        limit=limit,
    )
    notes: list[str] = []
    with progress("profiling run") as told:
        made = compile(model, options, note=notes.append, progress=told)
    save_bundle(
        made.graph, output, made.provenance, quantised=made.quantised, mapping=made.mapping, force=force
    )
    bundle = load_bundle(output)
    graph, quantised, mapping, origin = bundle.graph, bundle.quantised, bundle.mapping, bundle.provenance
    chip = profile or DEFAULT_PROFILE
    verdict, unknown = None, None
    if quantised is not None or mapping is not None:
        verdict, unknown = _judge(bundle, chip)
    beside = [node.name for node in quantised.nodes if node.off_core] if quantised else []
    facts = summary(graph) | {"bits": origin.options.get("bits"), "off_core": beside, "notes": notes}
    if mapping is not None:
        facts |= {"cores": len(mapping.cores), "chips": mapping.chips, "groups": mapping.groups}
    if as_json:
        document = {
            "bundle": str(output),
            "sha256": bundle.sha256,
            "source": origin.source,
            "source_sha256": origin.source_sha256,
            "options": origin.options,
            "passes": origin.passes,
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
    from stas_neuro.checker import check
    from stas_neuro.chips import MissingEntry

    try:
        (verdict,) = check(bundle, [chip]).verdicts
    except MissingEntry as error:
        return None, str(error)
    return verdict, None


def _show(verdict: Verdict, where: str) -> None:
    """Say that the chip cannot take the network, if so, and which layers lost weights on the way to it."""
    from stas_neuro.report import cannot_take

    if errors := [finding for finding in verdict.findings if finding.severity == "error"]:
        refused = cannot_take(verdict.profile, "this network", errors)
        click.echo(f"{refused}; runs and prices for it are a what-if; {where}")
    lost = [finding for finding in verdict.findings if finding.resource in LOST]
    for finding in lost[:LISTED]:
        what = LOST[finding.resource].format(used=finding.used, limit=finding.limit)
        click.echo(f"warning: {finding.layer}: {what}; {finding.remedy}")
    if len(lost) > LISTED:
        click.echo(f"and {len(lost) - LISTED} more such warnings; {where}")
