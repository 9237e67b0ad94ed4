"""Options, output and progress that commands share."""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
from click.shell_completion import CompletionItem

from stas_neuro.errors import closest

if TYPE_CHECKING:
    from rich.console import RenderableType

    from stas_neuro.ir import Graph

PATH = click.Path(path_type=Path)
PLAIN_INTERVAL_S = 10.0
"""Seconds between two lines of progress if stderr is not a terminal."""


def stas_command(*examples: str, name: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """Turn a function into a command: its docstring is the help; the common options are added."""

    def decorate(function: Callable[..., None]) -> click.Command:
        text = with_examples(inspect.getdoc(function) or "", examples)
        command = click.command(name, help=text)(function)
        for parameter in command.params:
            if isinstance(parameter.type, click.Choice):
                parameter.type = _Choice(parameter.type.choices)
            elif (list_names := _NAMES.get(str(parameter.metavar).partition("|all")[0])) is not None:
                parameter.type = _Named(list_names)
        command.params += _options_of_all()
        return command

    return decorate


class _Choice(click.Choice[Any]):
    """A choice whose error suggests the value that was probably meant."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        message = super().get_invalid_choice_message(value, ctx).rstrip(".")
        similar = closest(str(value), [str(choice) for choice in self.choices])
        return message if similar is None else f"{message}; did you mean {similar}?"


def _data_names() -> Collection[str]:
    from stas_neuro.data import NAMED

    return NAMED


def _profile_names() -> Collection[str]:
    from stas_neuro.chips import list_profiles

    return list_profiles()


_NAMES: Mapping[str, Callable[[], Collection[str]]] = {"DATA": _data_names, "NAME|FILE": _profile_names}
"""By what help texts call a value: the names that it may have, besides the path of a file."""


class _Named(click.types.StringParamType):
    """A text that is a name or a path; a shell completes names, or paths where no name begins so."""

    def __init__(self, list_names: Callable[[], Collection[str]]) -> None:
        self._list_names = list_names

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = [name for name in self._list_names() if name.startswith(incomplete)]
        return [CompletionItem(name) for name in names] or click.Path().shell_complete(ctx, param, incomplete)


def with_examples(text: str, examples: Sequence[str]) -> str:
    """Append example command lines, which are not wrapped, to a help text."""
    return "\n".join([text, "", "\b", "Examples:", *(f"  {example}" for example in examples)])


force_option = click.option(
    "--force", is_flag=True, help="Replace an earlier output of this command. Other files are never replaced."
)
data_option = click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="Images: fashion-mnist, digits, order, order-long, simulated-glimpses, japanese-vowels, a directory "
    "(class folders of images or event recordings, IDX or .npy files, Hugging Face's save_to_disk), or an "
    ".npz or .npy file.",
)
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N images."
)


def directory_option(text: str) -> Callable[[Any], Any]:
    """Make the option -o of a command that has to write a directory."""
    return click.option("-o", "--output", required=True, type=PATH, metavar="DIR", help=text)


def max_drop_option(text: str) -> Callable[[Any], Any]:
    """Make the option --max-drop, the largest loss of accuracy as a share; None if it is not given."""
    return click.option("--max-drop", callback=parse_share, metavar="X", help=text)


def weight_bits_option(name: str, *, metavar: str, text: str) -> Callable[[Any], Any]:
    """Make an option for the number of bits that weights are quantised to."""

    def checked(context: click.Context, parameter: click.Parameter, bits: int | None) -> int | None:
        if bits is not None:
            from stas_neuro.passes import Quantise  # imported here: help texts do not need numpy

            Quantise(bits=bits)  # refuses widths that no core has, before any work
        return bits

    return click.option(name, type=int, callback=checked, metavar=metavar, help=text)


def _options_of_all() -> list[click.Parameter]:
    def switch(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        assert parameter.name is not None
        setattr(context.obj, parameter.name, value or getattr(context.obj, parameter.name))

    json_help = "Print only one JSON document on stdout."
    options: list[click.Parameter] = [click.Option(["--json", "as_json"], is_flag=True, help=json_help)]
    for flag, text in (("--quiet", "Print no progress."), ("--debug", "Show the traceback of an error.")):
        options.append(click.Option([flag], is_flag=True, expose_value=False, callback=switch, help=text))
    return options


def parse_share(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Read a share, as 1% or 0.01."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise click.BadParameter(f"{text!r} is no share of at least 0 and below 1, such as 1% or 0.01")
    return share


def parse_shape(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    """Read a shape, as 2,34,34."""
    if text is None:
        return None
    sides = [int(side) if side.isascii() and side.isdigit() else 0 for side in text.split(",")]
    if len(sides) != 3 or min(sides) < 1:
        raise click.BadParameter(f"{text!r} is no shape (channels, rows, columns), such as 2,34,34")
    return tuple(sides)


def emit_json(document: Any) -> None:
    """Print a document. Numpy numbers become plain ones; a NaN is a bug and raises ValueError."""
    click.echo(json.dumps(document, indent=1, allow_nan=False, default=lambda number: number.item()))


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a table; columns whose cells are all numbers are aligned to the right."""
    from rich.console import Group
    from rich.text import Text

    from stas_neuro.report.word_table import WordTable

    table = WordTable(*columns)
    if title:
        emit(Group(Text(title, style="bold"), Text()))
    for index, column in enumerate(table.columns):
        if all(str(row[index])[:1].isdigit() for row in rows if str(row[index])):
            column.justify = "right"
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    emit(Group(table, Text()))


def emit(renderable: RenderableType) -> None:
    """Print a renderable object of rich."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(markup=False, highlight=False).print(renderable)
        return
    # A pipe or a file has no width: use COLUMNS, or a default at which few cells wrap.
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) else 200
    console = Console(markup=False, highlight=False, width=width)
    with console.capture() as capture:
        console.print(renderable)
    click.echo("\n".join(line.rstrip() for line in capture.get().split("\n")), nl=False)


class Progress(Protocol):
    """Called with the finished and all parts of a job, and what these are, if that changes."""

    def __call__(self, done: int, total: int, of: str = "") -> None:
        """Report."""


@contextmanager
def progress(what: str, *, at_once: bool = False) -> Iterator[Progress]:
    """Yield a function to report progress with: it draws a bar or, without a terminal, prints lines.

    `at_once` prints a first line without waiting, for jobs that are long in any case.
    """
    if is_quiet():
        yield lambda done, total, of="": None
        return
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            bar = bars.add_task(what, total=None)

            def draw(done: int, total: int, of: str = "") -> None:
                bars.update(bar, completed=done, total=total, description=f"{what} {of}".rstrip())

            yield draw
        return
    if at_once:
        click.echo(what, err=True)
    yield _Lines(what)


class _Lines:
    """Prints progress as lines, with the time that is left at the mean speed until then."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.of, self.before = "", 0
        self.begun = self.printed = time.monotonic()

    def __call__(self, done: int, total: int, of: str = "") -> None:
        now = time.monotonic()
        if of != self.of:
            self.of, self.begun, self.before = of, now, done
        if done >= total or now - self.printed < PLAIN_INTERVAL_S:
            return
        self.printed = now
        left = ""
        if done > self.before:
            seconds = (now - self.begun) / (done - self.before) * (total - done)
            left = f", {duration(seconds)} left"
        click.echo(f"{self.what}: {done} of {total}{of and ' '}{of}{left}", err=True)


def duration(seconds: float) -> str:
    """Format a duration that is an estimate, as about 40 s, about 5 min or about 3 h."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {max(1, round(seconds))} s"


def is_quiet() -> bool:
    """Whether --quiet was given."""
    return bool(click.get_current_context().obj.quiet)


def if_interrupted(remedy: str) -> None:
    """Set what the program says after Ctrl-C about how to go on."""
    click.get_current_context().obj.if_interrupted = remedy


def summary(graph: Graph) -> dict[str, Any]:
    """Return the facts about a graph that commands print, as plain data."""
    return {
        "stage": str(graph.stage),
        "nodes": len(graph.nodes),
        "parameters": sum(tensor.size for tensor in graph.tensors.values()),
        "time_steps": graph.time_steps,
        "blocks": graph.blocks,
        "tokens": graph.tokens,
        "input_shape": list(graph.input.shape),
        "classes": list(graph.classes),
        "accumulate": graph.halting,
        "late": graph.late,
        "readout": str(graph.readout.mode),
    }


def halting_words(facts: dict[str, Any]) -> str:
    """Describe how tokens halt, from a `summary`."""
    late = f", decided {facts['late']} hardware steps late (pipelined-stale)" if facts["late"] else ""
    return f"{facts['accumulate']}{late}"


def percent(share: float | None) -> str:
    """Format a share, or - for None."""
    return "-" if share is None else f"{100 * share:.2f} %"
