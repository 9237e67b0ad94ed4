"""Compare estimates with published measurements, without fitting.

    python examples/validate.py

`make validate` runs it, and also compares with SANA-FE. Exit code 1 if a bound that docs/validation.md
requires is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from stas_neuro.chips import load_profile
from stas_neuro.errors import StasError
from stas_neuro.report import si
from stas_neuro.validation import (
    LEVEL,
    Check,
    between_setups,
    coverage,
    loihi_runs,
    nearest,
    pilotnet,
    predictions,
    quartz,
    validate_published,
)

_PROMISES = {"error": "within {:.0%}", "interval": "inside the interval", "none": ""}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    console = Console(width=200)
    published = validate_published()
    console.print(_published_table(published))
    console.print(_coverage_table(published))
    console.print(_prediction_table())
    for measured in (pilotnet(), quartz(), nearest(), *loihi_runs()):
        note = getattr(measured, "note", "")
        text = f"{measured.title}: {measured.source}{f'; {note}' if note else ''}"
        console.print(text, highlight=False, soft_wrap=True)
    missed = [f"{check.case}: {check.quantity}" for check in published if not check.holds]
    for name in missed:
        console.print(f"missed: {name}", style="red")
    if not missed:
        console.print("all required bounds are met")
    return 1 if missed else 0


def _published_table(checks: Sequence[Check]) -> Table:
    table = Table(
        "run", "quantity", "predicted", "low", "high", "measured", "error", "inside", "required", "met", "",
        box=box.SIMPLE, title="Published measurements, without fitting",
    )  # fmt: skip
    for check in checks:
        predicted = check.predicted
        figures = (predicted.value, predicted.low, predicted.high, check.measured)
        table.add_row(
            check.case,
            check.quantity,
            *(si(figure, check.unit) for figure in figures),
            f"{check.error:+.1%}",
            _word(check.inside),
            _PROMISES[check.promise].format(check.bound),
            "" if check.promise == "none" else _word(check.holds),
            check.note,
        )
    return table


def _coverage_table(checks: Sequence[Check]) -> Table:
    table = Table(
        "measured", "inside", "mean high / low", "without figures of the run", "mean high / low",
        "median error",
        box=box.SIMPLE, title="Measurements inside the intervals",
    )  # fmt: skip
    for row in coverage(checks):
        table.add_row(
            f"{row.kind}: {row.measurements}",
            f"{row.inside} ({row.inside / row.measurements:.0%})",
            f"{row.width:.2g}",
            f"{row.held_out_inside} of {row.held_out} ({row.held_out_inside / row.held_out:.0%})",
            f"{row.held_out_width:.2g}",
            f"{row.error:.0%}",
        )
    table.caption = "not tested without their run: figures that nothing else measured"
    return table


def _prediction_table() -> Table:
    profile = load_profile("loihi1")
    table = Table(
        "entry", "in the profile", f"another set-up, {LEVEL:.0%}", "high / low", "set-ups",
        "inside the interval of the others",
        box=box.SIMPLE, title=f"Entries of {profile.name} that differ from set-up to set-up",
    )  # fmt: skip
    for found in predictions(between_setups(profile)):
        unit = "s" if found.entry.startswith("time") else "W"
        low, _, high = profile.corners(found.entry).tolist()
        ends = found.interval
        table.add_row(
            found.entry,
            f"{si(low, unit)} to {si(high, unit)}",
            f"{si(ends.low, unit)} to {si(ends.high, unit)}",
            f"{ends.high / ends.low:.2g}",
            str(found.setups),
            str(found.inside),
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
