"""``stas-export compile``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from stas_neuro.choices import (
    ACCUMULATIONS,
    DEFAULT_PROFILE,
    HALT_MODES,
    MODES,
    OBJECTIVES,
    PROFILE_IMAGES,
    SCHEDULES,
    SPREADS,
    STEM_MODES,
    STRATEGIES,
    HaltMode,
    Mode,
    Objective,
    Spread,
    Strategy,
)
from stas_neuro.cli.common import (
    PATH,
    emit,
    emit_json,
    force_option,
    halting_words,
    max_drop_option,
    parse_shape,
    progress,
    stas_command,
    summary,
    weight_bits_option,
)
from stas_neuro.cli.models import MODEL
from stas_neuro.cli.pricing import Settings, chosen_profile, set_option, settings_json, tell_settings
from stas_neuro.cli.weights_options import module_options, weights_options
from stas_neuro.files import check_outputs
from stas_neuro.models.config import READOUTS

if TYPE_CHECKING:
    from stas_neuro.bundle import Bundle
    from stas_neuro.checker import Verdict
    from stas_neuro.chips import Profile
    from stas_neuro.importers.weights import WeightsOptions
    from stas_neuro.ir import Encoding

LOST = {
    "zero weights": "all weights of {used} of {limit} output channels are 0",
    "lost weights": "{used} of its {limit} weights became 0",
}
"""Findings that compiling reports as warnings, because weights were lost, with their texts."""
LISTED = 8
"""Number of warnings in the text; JSON has all."""


@stas_command(
    "stas-export compile runs/digits -o digits.stas",
    "stas-export compile runs/digits --bits 8 --calibrate digits --profile loihi2 -o digits-8bit.stas",
    "stas-export compile fashion-spikformer --bits 8 -o shipped.stas",
    "stas-export compile weights.pth --arch spikformer --heads 12 --bits 8 -o spikformer.stas",
    "stas-export compile net.py:make --weights net.pth --example images.npz -o net.stas",
    "stas-export compile net.nir --dt 1e-4 --time-steps 25 -o net.stas",
    "stas-export compile net.net --time-steps 25 -o net.stas",
    "stas-export compile runs/digits --accumulate off -o digits-without-halting.stas",
    "stas-export compile runs/digits --halting image --calibrate digits -o digits-early.stas",
    "stas-export compile runs/digits --placement halting-aware --profile-run digits -o digits-on-cores.stas",
)
@click.argument("model", type=MODEL)
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
@click.option(
    "--max-visits",
    type=click.IntRange(min=1),
    metavar="N",
    help="A token halts after N visits whatever its score; of trained halting, or of --halting.  [default: "
    "as trained]",
)
@click.option(
    "--token-groups",
    type=click.IntRange(min=1),
    metavar="G",
    help="Tokens halt together in G groups, in scan order; of trained halting, or of --halting.  [default: "
    "as trained]",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    metavar="T",
    help="Run only the first T model steps, with the same weights.  [default: all]",
)
@click.option(
    "--halting",
    type=click.Choice(HALT_MODES),
    help="Add this halting to a network trained without, or instead of the trained one; its parameters are "
    "chosen on the images of --calibrate.",
)
@max_drop_option(
    "Largest loss of accuracy with --halting, as 1% or 0.01; of agreement with the network without halting "
    "if there are no labels.  [default: 1%]"
)
@click.option(
    "--alpha", type=float, metavar="A", help="Slope of the score of --halting, instead of choosing."
)
@click.option("--beta", type=float, metavar="B", help="With --halting: offset of the score, not chosen.")
@click.option(
    "--margin",
    type=float,
    metavar="M",
    help="With --halting image: the lead of the largest mean logit at which an image stops, not chosen.",
)
@click.option(
    "--summed", is_flag=True, help="--margin is that of the sum of logits over steps, not of their mean."
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
    help="Images to choose scales with, as --data of run; uses the training images of a known data set.",
)
@click.option(
    "--profile",
    metavar="NAME|FILE",
    help="The chip for the integer program and for --placement.  [default: loihi2]",
)
@set_option
@click.option(
    "--input-encoding",
    type=click.Choice(("graded", "bias", "spikes")),
    help="graded: send pixels to the cores as graded spikes; bias: compute the first layer on the processor "
    "and send its output as biases; spikes: the input is 0 or 1.  [default: graded]",
)
@click.option(
    "--exponents",
    type=click.Choice(("none",)),
    help="none: give weights no exponents, for convert --to netx.  [default: those of the chip]",
)
@click.option(
    "--backend",
    metavar="NAME",
    help="Adapt the integer program to this backend of run: for lava-stock biases are rounded.",
)
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    help="Which scores halting uses: all of them, or with pipelined-stale (late decisions) only those that "
    "have arrived in a pipeline.",
)
@click.option(
    "--late",
    type=click.IntRange(min=1),
    metavar="D",
    help="Hardware steps by which decisions are late; requires --schedule pipelined-stale.  [default: number "
    "of stages - 1]",
)
@click.option(
    "--placement",
    type=click.Choice(STRATEGIES),
    help="Also place the network on cores, grouped by channels, by tokens, or by tokens that halt together.",
)
@click.option(
    "--groups",
    type=click.IntRange(min=1),
    metavar="G",
    help="Number of groups into which --placement divides each block.  [default: the number that needs the "
    "fewest cores]",
)
@click.option(
    "--minimise",
    type=click.Choice((*SPREADS, *OBJECTIVES)),
    help="What --placement minimises: the number of cores, or the energy or latency of an image of "
    "--profile-run; halting-aware groups also core-steps or neuron-updates.  [default: cores, core-steps]",
)
@click.option(
    "--cores",
    type=click.IntRange(min=1),
    metavar="N",
    help="Largest number of cores, over which --placement spreads the network.  [default: the fewest, or "
    "those of the chip]",
)
@click.option(
    "--mode",
    type=click.Choice(list(MODES)),
    help="Whether --minimise is of an image alone, or in a stream of images.  [default: single; stream with "
    "--contexts]",
)
@click.option(
    "--contexts",
    type=click.IntRange(min=1),
    metavar="C",
    help="Images that share each neuron, with a membrane each, which the cores must hold.  [default: 1]",
)
@click.option(
    "--profile-run",
    metavar="DATA",
    help="Images from which halting-aware placement learns which tokens halt together.  [default: those of "
    "--calibrate]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Use the first N images of --profile-run.  [default: {PROFILE_IMAGES}]",
)
@module_options
@click.option(
    "--stem",
    metavar="MODULE",
    help="Of a module of ReLUs: the submodule that runs before the others, once for each image.",
)
@click.option(
    "--stem-mode",
    type=click.Choice(tuple(STEM_MODES)),
    help="What these receive of it in every step: "
    + "; ".join(f"{mode}: {words}" for mode, words in STEM_MODES.items())
    + ".  [default: one-step]",
)
@click.option(
    "--input-shape",
    callback=parse_shape,
    metavar="C,H,W",
    help="Shape of the input of a netx file, which does not say it before a convolution with a stride.",
)
@weights_options
@force_option
def command(
    model: Path,
    output: Path,
    accumulate: str | None,
    epsilon: float | None,
    readout: str | None,
    max_visits: int | None,
    token_groups: int | None,
    steps: int | None,
    halting: HaltMode | None,
    max_drop: float | None,
    alpha: float | None,
    beta: float | None,
    margin: float | None,
    summed: bool,
    bits: int | None,
    calibrate: str | None,
    profile: str | None,
    settings: Settings,
    input_encoding: Encoding | None,
    exponents: Literal["none"] | None,
    backend: str | None,
    schedule: str | None,
    late: int | None,
    placement: Strategy | None,
    groups: int | None,
    minimise: Objective | Spread | None,
    cores: int | None,
    mode: Mode | None,
    contexts: int | None,
    profile_run: str | None,
    limit: int | None,
    weights: Path | None,
    example: Path | None,
    dt: float | None,
    stem: str | None,
    stem_mode: str | None,
    time_steps: int | None,
    input_shape: tuple[int, ...] | None,
    ema: bool | None,
    force: bool,
    as_json: bool,
    released: WeightsOptions | None,
) -> None:
    """Compile MODEL to a bundle.

    MODEL is a checkpoint directory, the name of a shipped model, a bundle, with --arch a file of released
    weights, a NIR file (.nir), a netx file of lava-dl (.net), or file.py:function: the code of file.py is
    executed, and the function returns a torch module. No other MODEL is executed.

    A bundle contains the graph with every normalisation folded, its weights, and their origin. Running it
    requires numpy, and Lava for the Lava backends, but not torch. With --bits it also contains the integer
    program that a chip would run.
    """
    from stas_neuro.analysis import beside_cores
    from stas_neuro.bundle import bundle_output, load_bundle, save_bundle
    from stas_neuro.chips import profile_path
    from stas_neuro.cli.imports import Given, imported_files, open_named
    from stas_neuro.compiler import Compilation, CompileOptions, Compiler
    from stas_neuro.data import data_path
    from stas_neuro.placement import utilisation
    from stas_neuro.report.placement import utilisation_report

    given = Given(
        weights=weights,
        ema=ema or None,
        example=example,
        released=released,
        dt=dt,
        time_steps=time_steps,
        input_shape=input_shape,
        stem=stem,
        stem_mode=stem_mode,
    )
    chip = chosen_profile(profile or DEFAULT_PROFILE, settings)
    files = imported_files(model, given)
    reads = [*files, data_path(calibrate), data_path(profile_run), profile_path(profile)]
    check_outputs([bundle_output(output, force=force)], reads=reads)
    options = CompileOptions(
        accumulate=accumulate,
        epsilon=epsilon,
        readout=readout,
        max_visits=max_visits,
        token_groups=token_groups,
        steps=steps,
        halting=halting,
        max_drop=max_drop,
        alpha=alpha,
        beta=beta,
        margin=margin,
        summed=summed,
        bits=bits,
        calibrate=calibrate,
        profile=chip if settings else profile,
        input_encoding=input_encoding,
        exponents=exponents,
        backend=backend,
        schedule=schedule,
        late=late,
        placement=placement,
        groups=groups,
        minimise=minimise,
        cores=cores,
        mode=mode,
        contexts=contexts,
        profile_run=profile_run,
        limit=limit,
    )
    notes: list[str] = []
    with progress("images run") as report:
        opened = open_named(model, given)
        notes += opened.notes
        work = Compilation(Compiler(opened, note=notes.append, progress=report), options)
        made = work.bundle()
    save_bundle(
        made.graph, output, made.provenance, quantised=made.quantised, mapping=made.mapping, force=force
    )
    bundle = load_bundle(output)
    graph, quantised, mapping, origin = bundle.graph, bundle.quantised, bundle.mapping, bundle.provenance
    verdict, unknown = None, None
    if quantised is not None or mapping is not None:
        verdict, unknown = _judge(bundle, chip)
    beside = beside_cores(quantised) if quantised else []
    facts = summary(graph) | {
        "bits": origin.options.get("bits", opened.bits),
        "off_core": beside,
        "notes": notes,
    }
    facts |= {"warnings": opened.warnings}
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
            "weights": asdict(opened.weights.report) if opened.weights else None,
            "halting_choice": work.choice.to_json() if work.choice else None,
        }
        emit_json(document | facts | settings_json([chip]))
        return
    click.echo(
        f"{output}: {facts['nodes']} nodes, {facts['parameters']} parameters, {facts['blocks']} blocks x "
        f"{facts['time_steps']} time steps on {facts['tokens']} tokens, {len(facts['classes'])} classes, "
        f"halting {halting_words(facts)}"
    )
    for sentence in opened.weights.report.sentences() if opened.weights else ():
        click.echo(f"weights: {sentence}")
    if work.choice is not None:
        click.echo(work.choice.sentence())
    for note in notes:
        click.echo(f"note: {note}")
    for text in opened.warnings:
        click.echo(f"warning: {text}")
    if quantised is not None:
        click.echo(
            f"integer program with {facts['bits']}-bit weights; "
            + (f"computed off the cores: {', '.join(beside)}" if beside else "all layers on the cores")
        )
    if mapping is not None:
        emit(utilisation_report(utilisation(quantised or graph, mapping, chip)))
    tell_settings([chip])
    if unknown is not None:
        click.echo(f"not checked whether {profile or DEFAULT_PROFILE} can run it: {unknown}")
    if verdict is not None:
        _show(verdict, f"stas-export check {output} --profile {profile or DEFAULT_PROFILE} lists all")


def _judge(bundle: Bundle, chip: Profile) -> tuple[Verdict | None, str | None]:
    """Check whether the chip that a bundle was compiled for can run it; or return why that is unknown."""
    from stas_neuro.checker import check
    from stas_neuro.chips import MissingEntry

    try:
        (verdict,) = check(bundle, [chip]).verdicts
    except MissingEntry as error:
        return None, str(error)
    return verdict, None


def _show(verdict: Verdict, where: str) -> None:
    """Print that the chip cannot run the network, if so, and which layers lost weights in quantisation."""
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
