"""``stas-export verify``."""

from __future__ import annotations

import json
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
from stas_neuro.errors import InputError
from stas_neuro.files import Output, check_outputs, json_object, read_bytes

if TYPE_CHECKING:
    from stas_neuro.verifier import Agreement, ArithmeticCheck, LayerAgreement, Saturation, Verification

NETWORKS = {"float": "float network", "fixed": "integer program"}
PROMISES = {
    "float": """\
Independent programs, each against {baseline}. Promised in float64: every spike, visit and count of events
equal, logits within {tolerance:g}. In float32 the order of a sum decides close to thresholds: no promise.""",
    "fixed": """\
Lava in fixed point against {baseline}, which share no arithmetic. Promised: every spike, membrane,
halting score, visit, count of events and logit equal, to the last bit.""",
}
LISTED = 8
"""Layers in a table of the text; JSON has all."""


@stas_command(
    "stas-export verify digits.stas --data digits --limit 50",
    "stas-export verify digits-8bit.stas --data digits -o certificate.json",
)
@click.argument("network", metavar="BUNDLE|CHECKPOINT", type=PATH)
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
    type=PATH,
    metavar="CHECKPOINT",
    help="What the bundle was compiled from, for torch's side; by default where the bundle says it was.",
)
@click.option("--multiprocess", is_flag=True, help="Run Lava's own runtime too; slow.")
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Write the certificate to a JSON file.")
@force_option
def command(
    network: Path,
    data: str,
    limit: int,
    arithmetic: str,
    model: Path | None,
    multiprocess: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Check that torch, the references and Lava agree on a network, and certify it.

    In float64 every spike of every layer, every visit and every event must be equal, and logits within 1e-9;
    of the integer program every spike, membrane, score, visit, event and logit; and Lava's network has to say
    what the graph says. Exit code 1 if not, and where neither torch nor Lava can take part. In float32 the
    order of a sum can flip a spike, and with it all that follows; so can rounding to integers. There the
    agreement is reported, not promised.
    """
    from stas_neuro.data import data_path, load_data
    from stas_neuro.verifier import verify

    certificate = None
    if output is not None:
        certificate = Output(
            path=output, is_earlier=_is_certificate, otherwise="is no certificate", force=force
        )
    check_outputs([certificate], reads=[network, data_path(data), model])
    with progress("comparing") as told:
        result = verify(
            network,
            load_data(data),
            model=model,
            arithmetic=arithmetic,
            limit=limit,
            multiprocess=multiprocess,
            progress=told,
        )
    if certificate is not None:
        certificate.write((json.dumps(result.to_json(), indent=1) + "\n").encode())
    if as_json:
        emit_json(result.to_json())
    else:
        show(result)
        if output is not None:
            click.echo(f"written to {output}")
    result.require()


def _is_certificate(path: Path) -> bool:
    from stas_neuro.verifier import FORMAT

    try:
        return bool(json_object(read_bytes(path), str(path), "").get("format") == FORMAT)
    except InputError:
        return False


def show(result: Verification) -> None:
    """Print a certificate."""
    for part in result.parts:
        _show_part(part, result.images)
    if result.lowering is not None:
        _show_lowering(result.lowering, result.part("float"), result.part("fixed"))
    if result.saturation is not None:
        _show_saturation(result.saturation)
    for name, reason in result.left_out.items():
        click.echo(f"{name} was left out: {reason}")
    for note in result.notes:
        click.echo(f"note: {note}")
    _show_hashes(result)


def _show_part(part: ArithmeticCheck, images: int) -> None:
    from stas_neuro.verifier import BASELINE, INTEGER_BASELINE, TOLERANCE

    columns = ("against " + part.baseline, "dtype", "spikes differing")
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
    for difference in part.structure:
        click.echo(f"Lava's network DIFFERS from the graph: {difference}")
    if not part.structure:
        click.echo("Lava's network says what the graph says, in every parameter, weight and wire")
    if silent := part.silent_layers:
        click.echo(f"{len(silent)} of {len(part.spikes_fired)} layers never fire: {', '.join(silent)}")
    if part.visits_skipped == 0:
        click.echo("no token halted, so halting was not tested")
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
        ("equal" if agreement.equal else "DIFFERS") if agreement.promised else "no promise",
    )


def _show_lowering(lowering: Agreement, before: ArithmeticCheck, after: ArithmeticCheck) -> None:
    """Print what integers change: nothing of it is promised."""
    worst = sorted(lowering.layers, key=lambda layer: -layer.share)
    tokens = percent(1 - lowering.tokens_differing / lowering.tokens_compared)
    delta = "not finite" if lowering.logit_delta is None else f"{lowering.logit_delta:.3g}"
    click.echo("What integers change, reported and not promised (float reference to integer reference)")
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
    click.echo("Headroom: how far membranes stay below what a core holds")
    columns = ("layer, tightest first", "largest seen", "proved bound", "limit", "bits free", "unused here")
    emit_table(columns, rows, _title(len(tightest)))
    click.echo(f"the readout clipped {saturation.readout_clipped} of {saturation.readout_values} values\n")


def _title(layers: int) -> str:
    return f"{LISTED} of {layers} layers; --json has all" if layers > LISTED else ""


def _show_hashes(result: Verification) -> None:
    """Print what the certificate is about, by its SHA-256."""
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
    verdict = "every promise holds" if result.passed else "NOT every promise holds"
    click.echo(f"stas-neuro {document['tool_version']}: {verdict}")
