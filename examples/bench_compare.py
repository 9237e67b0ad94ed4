"""Compare two files of ``bench.py --output``: the ratio of each figure to the baseline of the same run.

    python examples/bench_compare.py old.json new.json

Ratios are compared, not times, to reduce the effect of a busy or different machine. "apart" marks a figure
whose ranges over the repeats do not overlap. Other differences may be random; with few repeats on a busy
machine this one may be random too.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from stas_neuro.errors import InputError

FORMAT = ("stas-neuro benchmark", 1)


def read(path: Path) -> dict[str, Any]:
    """Read a file of bench.py."""
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = (result["format"], result["schema_version"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        what = f"{path} is not a benchmark: {error!r}"
        raise InputError(what, "give a file of bench.py --output") from error
    if found != FORMAT:
        raise InputError(f"{path}: format is {found}, this program reads {FORMAT}", "run the bench again")
    return result


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str, str, str, str, str]]:
    """Return rows of subject, quantity, both ratios, the second divided by the first, and "apart" or "".

    Raises
    ------
    InputError
        If the settings of the two differ; every difference is reported.
    """
    settings = a["settings"].keys() | b["settings"].keys()
    pairs = [(name, a["settings"].get(name), b["settings"].get(name)) for name in sorted(settings)]
    unlike = [f"{name} is {one} and {other}" for name, one, other in pairs if one != other]
    if unlike:
        raise InputError("; ".join(unlike), "run both with the same settings")
    first, second = ({(each["what"], each["quantity"]): each for each in of["figures"]} for of in (a, b))
    rows = []
    for what, quantity in first | second:
        old, new = first.get((what, quantity)), second.get((what, quantity))
        change = apart = ""
        if old and new:
            if old["what"] == old["rival"]:
                continue  # 1 by definition
            change = f"{new['ratio'] / old['ratio']:.2f}"
            overlap = new["ratio_low"] <= old["ratio_high"] and old["ratio_low"] <= new["ratio_high"]
            repeated = old["low"] < old["high"]  # peak memory is read once
            apart = "apart" if repeated and not overlap else ""
        ratios = (f"{each['ratio']:.3g}" if each else "absent" for each in (old, new))
        rows.append((what, quantity, *ratios, change, apart))
    return rows


def show(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("what", "quantity"):
        table.add_column(name, no_wrap=True)
    for name in ("A", "B", "B/A", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for row in compare(a, b):
        table.add_row(*row)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for name, each in (("A", a), ("B", b)):
        versions = ", ".join(f"{package} {number}" for package, number in each["versions"].items())
        console.print(
            f"{name}: {each['commit']}, {each['machine']}, load {each['load_average']:.1f}, {versions}"
        )
    rivals = dict.fromkeys(each["rival"] for each in b["figures"])
    console.print(f"Figures are ratios to the same figure of {' or '.join(rivals)} in the same run.")


def main() -> int:
    """Compare two files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("a", type=Path, metavar="A.json")
    parser.add_argument("b", type=Path, metavar="B.json")
    arguments = parser.parse_args()
    try:
        show(read(arguments.a), read(arguments.b))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
