"""``stas-export verify``."""

from __future__ import annotations

from pathlib import Path

import click

from stas_neuro.cli.common import PATH, data_option, emit_json, emit_table, progress, stas_command
from stas_neuro.data import load_data
from stas_neuro.verification import BASELINE, Agreement, Verification, verify


@stas_command(
    "stas-export verify digits.stas --data digits --limit 50",
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
    "--model",
    type=PATH,
    metavar="CHECKPOINT",
    help="What the bundle was compiled from, for torch's side; by default where the bundle says it was.",
)
@click.option("--multiprocess", is_flag=True, help="Run Lava's own runtime too; slow.")
def command(
    network: Path, data: str, limit: int, model: Path | None, multiprocess: bool, as_json: bool
) -> None:
    """Check that torch, the reference interpreter and Lava agree on a network.

    In float64 every spike of every layer, every visit and every event must be equal, and logits within 1e-9:
    exit code 1 if not, and where neither torch nor Lava can take part. In float32 the order of a sum can flip
    a spike, and with it all that follows: there the agreement is reported, not promised.
    """
    with progress("comparing") as told:
        result = verify(
            network, load_data(data), model=model, limit=limit, multiprocess=multiprocess, progress=told
        )
    if as_json:
        emit_json(result.to_json())
    else:
        show(result)
    result.require()


def show(result: Verification) -> None:
    """Print a certificate."""
    columns = ("against " + BASELINE, "dtype", "spikes differing", "visits", "events", "logits", "top-1", "")
    title = f"{result.images} images, {sum(result.spikes_fired.values())} spikes fired"
    if result.visits_skipped is not None:
        title += f", {result.visits_skipped} visits skipped"
    emit_table(columns, [_row(agreement) for agreement in result.agreements], title)
    for agreement in result.agreements:
        if agreement.first is None:
            continue
        click.echo(f"{agreement.run} {agreement.dtype} first differs at {agreement.first}")
        for layer in agreement.layers:
            if layer.differing:
                click.echo(f"  {layer.layer}: {layer.differing} of {layer.compared} spikes")
    if silent := result.silent_layers:
        click.echo(f"{len(silent)} of {len(result.spikes_fired)} layers never fire: {', '.join(silent)}")
    if result.visits_skipped == 0:
        click.echo("no token halted, so halting was not tested")
    for part, reason in result.left_out.items():
        click.echo(f"{part} was left out: {reason}")


def _row(agreement: Agreement) -> tuple[object, ...]:
    return (
        agreement.run,
        agreement.dtype,
        f"{agreement.spikes_differing} of {agreement.spikes_compared}",
        agreement.visits_differing,
        agreement.events_differing,
        "not finite" if agreement.logit_delta is None else f"{agreement.logit_delta:.1e}",
        agreement.top1_changes,
        ("equal" if agreement.equal else "DIFFERS") if agreement.promised else "no promise",
    )
