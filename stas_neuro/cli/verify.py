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
    exit code 1 if not. In float32 the order of a sum decides about one spike in ten million: there the
    agreement is reported.
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
    emit_table(columns, [_row(agreement) for agreement in result.agreements], f"{result.images} images")
    for agreement in result.agreements:
        if agreement.first is None:
            continue
        click.echo(f"{agreement.run} {agreement.dtype} first differs at {agreement.first}")
        for layer in agreement.layers:
            if layer.differing:
                click.echo(f"  {layer.layer}: {layer.differing} of {layer.compared} spikes")
    for part, reason in result.left_out.items():
        click.echo(f"{part} was left out: {reason}")


def _row(agreement: Agreement) -> tuple[object, ...]:
    return (
        agreement.run,
        agreement.dtype,
        f"{agreement.spikes_differing} of {agreement.spikes_compared}",
        agreement.visits_differing,
        agreement.events_differing,
        f"{agreement.logit_delta:.1e}",
        agreement.top1_changes,
        ("equal" if agreement.equal else "DIFFERS") if agreement.promised else "no promise",
    )
