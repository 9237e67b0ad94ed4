"""Compare counts and prices of placed networks with SANA-FE's, step by step.

    PYTHONPATH=tests python -m sanafe_oracle .oracle/bin/python

Exit code 1 if a bound that docs/validation.md requires is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from sanafe_oracle.cases import sanafe_cases
from sanafe_oracle.cross_check import ENERGY_BOUND, Case, CrossCheck, cross_check
from stas_neuro.errors import StasError
from stas_neuro.placement import Strategy, place
from stas_neuro.report import si


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", type=Path, help="interpreter that has SANA-FE")
    options = parser.parse_args(arguments)
    console = Console(width=200)
    with tempfile.TemporaryDirectory() as scratch:
        cases = (*sanafe_cases(), *_placed_cases())
        checks = [cross_check(case, options.python, Path(scratch)) for case in cases]
    console.print(_counts_table(checks), _energies_table(checks))
    missed = [check.case for check in checks if not check.holds]
    for name in missed:
        console.print(f"missed: {name}", style="red")
    if not missed:
        console.print("all required bounds are met")
    return 1 if missed else 0


def _placed_cases() -> list[Case]:
    """The first case on the cores that `place` chooses."""
    first = sanafe_cases()[0]
    strategies: tuple[Strategy, ...] = ("token-major", "channel-major")
    return [
        replace(
            first,
            name=f"memoryless, {strategy}, {first.profile.name}",
            mapping=place(first.graph, first.profile, strategy=strategy, groups=4),
        )
        for strategy in strategies
    ]


def _counts_table(checks: Sequence[CrossCheck]) -> Table:
    names = dict.fromkeys(count.quantity for check in checks for count in check.counts)
    table = Table(
        "case", *names, "every step equal", box=box.SIMPLE, title="SANA-FE: events of a run, ours / SANA-FE's"
    )
    for check in checks:
        by_name = {count.quantity: count for count in check.counts}
        cells = [
            f"{sum(by_name[name].own)} / {sum(by_name[name].theirs)}" if name in by_name else "-"
            for name in names
        ]
        table.add_row(check.case, *cells, _word(all(count.holds for count in check.counts)))
    return table


def _energies_table(checks: Sequence[CrossCheck]) -> Table:
    parts = [energy.quantity for energy in checks[0].energies]
    table = Table(
        "case", *parts, "largest error", f"within {ENERGY_BOUND:.0%}", "only here", box=box.SIMPLE,
        title="SANA-FE: dynamic energy, ours / SANA-FE's",
    )  # fmt: skip
    for check in checks:
        table.add_row(
            check.case,
            *(f"{si(energy.predicted.value, 'J')} / {si(energy.measured, 'J')}" for energy in check.energies),
            f"{max(abs(energy.error) for energy in check.energies):.0e}",
            _word(all(energy.holds for energy in check.energies)),
            ", ".join(f"{event} {si(energy, 'J')}" for event, energy in check.beside.items()),
        )
    return table


def _word(holds: bool) -> str:
    return "yes" if holds else "NO"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StasError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
