"""What commands share: options, output, progress, and directories that appear whole."""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

    from stas_neuro.ir import Graph

PATH = click.Path(path_type=Path)
PLAIN_INTERVAL_S = 10.0
"""How often progress is told where there is no terminal to draw on."""


def stas_command(*examples: str, name: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function, whose docstring is its help, with the options that all commands have."""

    def decorate(function: Callable[..., None]) -> click.Command:
        text = with_examples(inspect.getdoc(function) or "", examples)
        command = click.command(name, help=text)(function)
        command.params += _options_of_all()
        return command

    return decorate


def with_examples(text: str, examples: Sequence[str]) -> str:
    """Append command lines to a help text, not to be wrapped."""
    return "\n".join([text, "", "\b", "Examples:", *(f"  {example}" for example in examples)])


force_option = click.option(
    "--force", is_flag=True, help="Replace an earlier output of this command; nothing else is ever replaced."
)
data_option = click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="fashion-mnist, digits, a directory of IDX files, or an .npz with images and labels.",
)
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Take only the first N images."
)


def weight_bits_option(name: str, *, metavar: str, text: str) -> Callable[[Any], Any]:
    """Make an option of a number of bits that weights are quantised to."""

    def checked(context: click.Context, parameter: click.Parameter, bits: int | None) -> int | None:
        if bits is not None:
            from stas_neuro.passes import Quantise  # numpy, which no help text needs

            Quantise(bits=bits)  # refuses what no core holds, before any work
        return bits

    return click.option(name, type=int, callback=checked, metavar=metavar, help=text)


def _options_of_all() -> list[click.Parameter]:
    def switch(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        context.obj.debug |= value

    json_help = "Print one JSON document on stdout and nothing else there."
    debug_help = "Show the traceback of an error."
    return [
        click.Option(["--json", "as_json"], is_flag=True, help=json_help),
        click.Option(["--debug"], is_flag=True, expose_value=False, callback=switch, help=debug_help),
    ]


def emit_json(document: Any) -> None:
    """Print a document; numpy numbers become plain ones, and a NaN is an error of ours."""
    click.echo(json.dumps(document, indent=1, allow_nan=False, default=lambda number: number.item()))


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a table; columns whose cells are all numbers are aligned to the right.

    Where there is no room, cells are folded and never cut.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    if title:
        emit(Group(Text(title, style="bold"), Text()))
    for index, name in enumerate(columns):
        numbers = all(str(row[index])[:1].isdigit() for row in rows if str(row[index]))
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    emit(Group(table, Text()))


def emit(renderable: RenderableType) -> None:
    """Print what rich can draw."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(markup=False, highlight=False).print(renderable)
        return
    # A pipe or a file has no width of its own: that of COLUMNS, or else one at which little folds.
    told = os.environ.get("COLUMNS", "")
    width = int(told) if told.isdecimal() and int(told) else 200
    console = Console(markup=False, highlight=False, width=width)
    with console.capture() as capture:
        console.print(renderable)
    click.echo("\n".join(line.rstrip() for line in capture.get().split("\n")), nl=False)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with (done, total): it draws a bar or, without a terminal, writes few lines."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            bar = bars.add_task(what, total=None)
            yield lambda done, total: bars.update(bar, completed=done, total=total)
        return
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if done < total and time.monotonic() - told >= PLAIN_INTERVAL_S:
            told = time.monotonic()
            click.echo(f"{what}: {done} of {total}", err=True)

    yield tell


def summary(graph: Graph) -> dict[str, Any]:
    """What a graph is, in numbers and words."""
    from stas_neuro.analysis import halting_mode, lateness  # numpy, which no help text needs

    return {
        "stage": str(graph.stage),
        "nodes": len(graph.nodes),
        "parameters": sum(tensor.size for tensor in graph.tensors.values()),
        "time_steps": graph.time_steps,
        "blocks": graph.blocks,
        "tokens": graph.tokens,
        "input_shape": list(graph.input.shape),
        "classes": list(graph.classes),
        "accumulate": halting_mode(graph),
        "late": lateness(graph),
        "readout": str(graph.readout.mode),
    }


def halting_words(facts: dict[str, Any]) -> str:
    """Say of a `summary` how tokens halt."""
    late = f", decided {facts['late']} hardware steps late (pipelined-stale)" if facts["late"] else ""
    return f"{facts['accumulate']}{late}"


def percent(share: float | None) -> str:
    """Format a share, - where there is none."""
    return "-" if share is None else f"{100 * share:.2f} %"
