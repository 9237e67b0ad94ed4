"""``stas-export verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stas_neuro.choices import ARITHMETICS
from stas_neuro.cli.common import (
    PATH,
    data_option,
    emit_json,
    emit_table,
    force_option,
    percent,
    progress,
    stas_command,
)
from stas_neuro.cli.models import MODEL
from stas_neuro.files import check_outputs

if TYPE_CHECKING:
    from stas_neuro.verifier import Agreement, ArithmeticCheck, LayerAgreement, Saturation, Verification

NETWORKS = {"float": "float network", "fixed": "integer program"}
PROMISES = {
    "float": """\
Independent programs, each compared with {baseline}. Required in float64: equal spikes, visits and event
counts, logits within {tolerance:g}. Not required in float32: near thresholds the order of a sum matters.""",
    "fixed": """\
Lava in fixed point compared with {baseline}; they share no arithmetic. Required: equal spikes,
membranes, halting scores, visits, event counts and logits, bit by bit.""",
}
LISTED = 8
"""Number of layers in a table of the text; JSON has all."""


@stas_command(
    "stas-export verify digits.stas --data digits --limit 50",
    "stas-export verify digits-8bit.stas --data digits -o certificate.json",
)
@click.argument("network", metavar="BUNDLE|CHECKPOINT", type=MODEL)
@data_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    metavar="N",
    help="Compare only the first N images.",
)
@click.option(
    "--arithmetic",
    type=click.Choice(("all", *ARITHMETICS)),
    default="all",
    show_default=True,
    help="Compare only the float network, or only the integer program of a bundle compiled with --bits.",
)
@click.option(
    "--model",
    type=MODEL,
    metavar="CHECKPOINT",
    help="The checkpoint that the bundle was compiled from, to run in torch.  [default: the path that the "
    "bundle records]",
)
@click.option(
    "--lava-package",
    type=PATH,
    metavar="DIRECTORY",
    help="Run Lava on what convert wrote to this directory, and compare it with the graph.",
)
@click.option("--multiprocess", is_flag=True, help="Also run Lava's own runtime; slow.")
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Write the certificate to a JSON file.")
@force_option
def command(
    network: Path,
    data: str,
    limit: int,
    arithmetic: str,
    model: Path | None,
    lava_package: Path | None,
    multiprocess: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Verify that torch, the references and Lava agree on a network, and certify it.

    In float64 every spike of every layer, every visit and every event must be equal, and logits must agree
    within 1e-9. For the integer program every spike, membrane, score, visit, event and logit must be equal.
    A package for Lava must equal the graph. Exit code 1 if not, or if neither torch nor Lava
    is available. In float32 the order of a sum can change a spike and everything after it, and so can
    rounding to integers: this agreement is reported, not required.
    """
    from stas_neuro.data import data_path, load_data
    from stas_neuro.exporters.lava.saved import load_network
    from stas_neuro.verifier import certificate_output, verify

    certificate = None if output is None else certificate_output(output, force=force)
    check_outputs([certificate], reads=[network, data_path(data), model, lava_package])
    with progress("comparing") as report:
        result = verify(
            network,
            load_data(data),
            model=model,
            arithmetic=arithmetic,
            limit=limit,
            multiprocess=multiprocess,
            lava_network=None if lava_package is None else load_network(lava_package),
            progress=report,
        )
    if output is not None:
        result.write(output, force=force)
    if as_json:
        emit_json(result.to_json())
    else:
        show(result, packaged=lava_package is not None)
        if output is not None:
            click.echo(f"written to {output}")
    result.require()


def show(result: Verification, *, packaged: bool = False) -> None:
    """Print a certificate; `packaged` where Lava ran a package."""
    for part in result.parts:
        _show_part(part, result.images)
    if packaged:
        _show_structure(result)
    if result.lowering is not None:
        _show_lowering(result.lowering, result.part("float"), result.part("fixed"))
    if result.saturation is not None:
        _show_saturation(result.saturation)
    for name, reason in result.left_out.items():
        click.echo(f"{name} was skipped: {reason}")
    for note in result.notes:
        click.echo(f"note: {note}")
    _show_hashes(result)


def _show_part(part: ArithmeticCheck, images: int) -> None:
    from stas_neuro.verifier import BASELINE, INTEGER_BASELINE, TOLERANCE

    columns = ("compared with " + part.baseline, "dtype", "spikes differing")
    states = ("membranes, scores",) if part.arithmetic == "fixed" else ()
    title = (
        f"The {NETWORKS[part.arithmetic]}: {images} images, {sum(part.spikes_fired.values())} spikes fired"
    )
    if part.visits_skipped is not None:
        title += f", {part.visits_skipped} visits skipped"
    rows = [_row(agreement) for agreement in part.agreements]
    baseline = BASELINE if part.arithmetic == "float" else INTEGER_BASELINE
    promise = PROMISES[part.arithmetic].format(baseline=baseline, tolerance=TOLERANCE)
    click.echo(f"{title}\n{promise}")
    emit_table((*columns, *states, "visits", "events", "logits", "top-1", ""), rows)
    for agreement in part.agreements:
        if agreement.first is None:
            continue
        click.echo(f"{agreement.run} {agreement.dtype} first differs at {agreement.first}")
        for layer in agreement.layers:
            if layer.differing:
                click.echo(f"  {layer.layer}: {layer.differing} of {layer.compared} {layer.quantity}s")
    if silent := part.silent_layers:
        click.echo(f"{len(silent)} of {len(part.spikes_fired)} layers never fire: {', '.join(silent)}")
    if part.visits_skipped == 0:
        click.echo("no token halted, so halting was not tested")
    click.echo()


def _show_structure(result: Verification) -> None:
    found = [difference for part in result.parts for difference in part.structure]
    for difference in found:
        click.echo(f"Lava's package DIFFERS from the graph: {difference}")
    if not found:
        click.echo("Lava's package says what the graph says, in every attribute, weight and edge")
    click.echo()


def _row(agreement: Agreement) -> tuple[object, ...]:
    states = (f"{agreement.states_differing} of {agreement.states_compared}",)
    return (
        agreement.run,
        agreement.dtype,
        f"{agreement.spikes_differing} of {agreement.spikes_compared}",
        *(states if agreement.states_compared else ()),
        agreement.visits_differing,
        agreement.events_differing,
        "not finite" if agreement.logit_delta is None else f"{agreement.logit_delta:.1e}",
        agreement.top1_changes,
        ("equal" if agreement.equal else "DIFFERS") if agreement.promised else "not required",
    )


def _show_lowering(lowering: Agreement, before: ArithmeticCheck, after: ArithmeticCheck) -> None:
    """Print the effect of integers, for which no equality is required."""
    worst = sorted(lowering.layers, key=lambda layer: -layer.share)
    tokens = percent(1 - lowering.tokens_differing / lowering.tokens_compared)
    delta = "not finite" if lowering.logit_delta is None else f"{lowering.logit_delta:.3g}"
    click.echo("Effect of integers: reported, no equality required (float reference to integer reference)")
    rows = [
        ("accuracy", percent(before.accuracy), percent(after.accuracy)),
        ("token ratio", percent(before.token_ratio), percent(after.token_ratio)),
    ]
    emit_table(("", "float", "integers"), rows)
    click.echo(
        f"{lowering.top1_changes} images classified differently, logits by up to {delta}; "
        f"{tokens} of the tokens make the same visits"
    )
    if lowering.first is not None:
        click.echo(f"first spike that differs: {lowering.first}")
    steps = [_by_step(layer) for layer in worst[:LISTED]]
    layers = [(layer.layer, percent(1 - layer.share), by) for layer, by in zip(worst, steps, strict=False)]
    emit_table(("layer, worst first", "spikes equal", "at each step"), layers, _title(len(worst)))


def _by_step(layer: LayerAgreement) -> str:
    steps = len(layer.differing_by_step)
    return ", ".join(percent(1 - count * steps / layer.compared) for count in layer.differing_by_step)


def _show_saturation(saturation: Saturation) -> None:
    tightest = sorted(saturation.layers, key=lambda layer: layer.bits)
    rows = [
        (each.layer, each.largest, each.bound, each.limit, f"{each.bits:.1f}", f"{each.bits_seen:.1f}")
        for each in tightest[:LISTED]
    ]
    click.echo("Headroom of membranes below the largest value that a core can store")
    columns = (
        "layer, smallest first",
        "largest seen",
        "proved bound",
        "limit",
        "bits free",
        "bits unused here",
    )
    emit_table(columns, rows, _title(len(tightest)))
    click.echo(f"the readout clipped {saturation.readout_clipped} of {saturation.readout_values} values\n")


def _title(layers: int) -> str:
    return f"{LISTED} of {layers} layers; --json lists all" if layers > LISTED else ""


def _show_hashes(result: Verification) -> None:
    """Print the SHA-256 of everything that the certificate covers."""
    document = result.to_json()
    data = result.data
    rows = [
        *((f"model {name}", digest) for name, digest in result.subject.source_sha256.items()),
        *((f"bundle {name}", digest) for name, digest in result.subject.bundle_sha256.items()),
        (f"{data.dtype} images {data.shape}", data.images_sha256),
        *([("labels", data.labels_sha256)] if data.labels_sha256 else []),
        ("this certificate", document["certificate_sha256"]),
    ]
    emit_table(("", "SHA-256"), rows)
    verdict = "all requirements met" if result.passed else "NOT all requirements met"
    click.echo(f"stas-neuro {document['tool_version']}: {verdict}")
