"""``stas-export check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stas_neuro.cli.common import PATH, emit_json, emit_table, stas_command, weight_bits_option

if TYPE_CHECKING:
    from stas_neuro.checker import Finding, Preflight, Verdict


@stas_command(
    "stas-export check runs/digits --profile loihi2",
    "stas-export check digits.stas --profile all --json",
)
@click.argument("network", metavar="MODEL|BUNDLE", type=PATH)
@click.option(
    "--profile",
    default="all",
    show_default=True,
    metavar="NAME|FILE|all",
    help="A chip of the catalogue, a .toml file, or all of the catalogue.",
)
@weight_bits_option(
    "--bits",
    metavar="B",
    text="Quantise to weights of B bits, 2 to 9, 8 if not given; BUNDLE keeps the integers it holds then.",
)
def command(network: Path, profile: str, bits: int | None, as_json: bool) -> None:
    """Check whether chips can take MODEL, a checkpoint directory, or BUNDLE: every problem at once.

    What a chip lacks, what does not fit, and what may silently come out different there, each with its layer
    and what to do. Exit code 1 where a chip that was asked for cannot take it.
    """
    from stas_neuro.checker import check

    result = check(network, None if profile == "all" else [profile], bits=bits)
    if as_json:
        emit_json(result.to_json())
    else:
        show(result)
    result.require()


def show(result: Preflight) -> None:
    """Print the verdicts and, of each chip, what was found."""
    from stas_neuro.checker import RESOURCES

    for verdict in result.verdicts:
        click.echo(_line(verdict))
        if verdict.findings:
            columns = ("", "what", "where", "used", "limit", "what to do")
            emit_table(columns, [_row(group) for group in _alike(verdict.findings)])
        for entry, reason in verdict.unchecked.items():
            click.echo(f"not checked: {entry}: {reason}")
        click.echo()
    words = {finding.resource for verdict in result.verdicts for finding in verdict.findings}
    if words:
        click.echo(f"weights of {result.weight_bits} bits; {result.packing}")
        if (placed := result.placed) is not None:
            chips = f"{placed.chips} {'chip' if placed.chips == 1 else 'chips'}"
            click.echo(f"this bundle was placed on {placed.cores} cores of {chips} of {placed.profile}")
        emit_table(("what", "means"), [(word, RESOURCES[word]) for word in RESOURCES if word in words])


def _line(verdict: Verdict) -> str:
    if verdict.fits is None:
        return f"{verdict.profile}: {verdict.title} has no cores to place networks on: nothing to check"
    answer = "can take it" if verdict.fits else "CANNOT take it"
    counts = f"{verdict.count('error')} errors, {verdict.count('warning')} warnings"
    return f"{verdict.profile}: {verdict.title} {answer}: {counts}"


def _alike(findings: tuple[Finding, ...]) -> list[list[Finding]]:
    """Put findings that differ only in layer and number together, in the order they come."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        apart = finding.layer if finding.resource in ("operation", "integers") else ""
        groups.setdefault((finding.severity, finding.resource, finding.remedy + apart), []).append(finding)
    return list(groups.values())


def _row(group: list[Finding]) -> tuple[object, ...]:
    first = group[0]
    numbers = [finding for finding in group if isinstance(finding.used, int)]
    worst = max(numbers, key=lambda finding: finding.used) if numbers else first
    where = worst.layer or "whole network"
    if len(group) > 1:
        where += f" and {len(group) - 1} more"
    return (first.severity, first.resource, where, worst.used, worst.limit, first.remedy)
