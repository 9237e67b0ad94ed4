"""``stas-export check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stas_neuro.cli.common import emit_json, emit_table, stas_command, weight_bits_option
from stas_neuro.cli.models import MODEL
from stas_neuro.cli.pricing import Settings, chosen_profiles, set_option, settings_json, tell_settings

if TYPE_CHECKING:
    from stas_neuro.checker import Finding, Preflight, Verdict


@stas_command(
    "stas-export check runs/digits --profile loihi2",
    "stas-export check digits.stas --profile all --json",
)
@click.argument("network", metavar="MODEL|BUNDLE", type=MODEL)
@click.option(
    "--profile",
    default="all",
    show_default=True,
    metavar="NAME|FILE|all",
    help="A chip of the catalogue, a .toml file, or all chips of the catalogue.",
)
@weight_bits_option(
    "--bits",
    metavar="B",
    text="Quantise to weights of B bits, 2 to 9.  [default: the integers of MODEL or BUNDLE, else 8]",
)
@set_option
def command(network: Path, profile: str, bits: int | None, settings: Settings, as_json: bool) -> None:
    """Check whether chips can run MODEL, a checkpoint or a shipped model, or BUNDLE, and list every problem.

    Lists missing features, exceeded limits, and operations whose results may differ on the chip, each with
    its layer and a remedy. Exit code 1 if a requested chip cannot run the network.
    """
    from stas_neuro.checker import check

    chips = chosen_profiles(profile, settings)
    result = check(network, chips, bits=bits)
    if as_json:
        emit_json(result.to_json() | settings_json(chips))
    else:
        show(result)
        tell_settings(chips)
    result.require()


def show(result: Preflight) -> None:
    """Print the verdict and the findings of each chip."""
    from stas_neuro.checker import RESOURCES

    for verdict in result.verdicts:
        click.echo(_line(verdict))
        if verdict.findings:
            columns = ("severity", "finding", "layer", "used", "limit", "remedy")
            emit_table(columns, [_row(group) for group in _grouped(verdict.findings)])
        for entry, reason in verdict.unchecked.items():
            click.echo(f"not checked: {entry}: {reason}")
        click.echo()
    words = {finding.resource for verdict in result.verdicts for finding in verdict.findings}
    if words:
        click.echo(f"weights have {result.weight_bits} bits; {result.packing}")
        if (placed := result.placed) is not None:
            chips = f"{placed.chips} {'chip' if placed.chips == 1 else 'chips'}"
            click.echo(f"this bundle was placed on {placed.cores} cores of {chips} of {placed.profile}")
        emit_table(("finding", "meaning"), [(word, RESOURCES[word]) for word in RESOURCES if word in words])


def _line(verdict: Verdict) -> str:
    if verdict.fits is None:
        return f"{verdict.profile}: {verdict.title} has no cores for placement: nothing to check"
    answer = "can run it" if verdict.fits else "CANNOT run it"
    counts = f"{verdict.count('error')} errors, {verdict.count('warning')} warnings"
    return f"{verdict.profile}: {verdict.title} {answer}: {counts}"


def _grouped(findings: tuple[Finding, ...]) -> list[list[Finding]]:
    """Group findings that differ only in layer and number, in their original order."""
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
