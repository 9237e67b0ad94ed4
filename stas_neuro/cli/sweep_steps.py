"""The steps of a sweep: commands, and functions of the user that measure something."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stas_neuro.cli.models import MODEL
from stas_neuro.errors import InputError, StasError, unknown
from stas_neuro.extras import without_norse_warning

if TYPE_CHECKING:
    from stas_neuro.sweeper import Kind, Made, Options, Pool, Report, Swept, Value

_OF_SWEEP = ("output", "json", "quiet", "debug", "force", "resume", "full", "skip")
"""Options that a sweep gives itself, or that change only what is printed."""
FUNCTION = "function"


class StepFailed(StasError):
    """A step that ended with an error, in the words of the command line."""

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True)
class CommandKind:
    """A command as a kind of step; its options are those of the command line, and are checked as there.

    Parameters
    ----------
    name : str
    argument : str or None
        Name of the argument.
    follows : str or None
        The kind of step whose product is the argument.
    leaf : bool
    """

    name: str
    argument: str | None
    follows: str | None
    leaf: bool

    @property
    def product(self) -> str | None:
        """What stands for the product of the step before in the argument, as {train}."""
        return None if self.follows is None else f"{{{self.follows}}}"

    @cached_property
    def parameters(self) -> Mapping[str, click.Parameter]:
        """Parameters by name, without what a sweep gives itself."""
        command: click.Command = importlib.import_module(f"stas_neuro.cli.{self.name}").command
        named = {max(each.opts, key=len).lstrip("-"): each for each in command.params}
        return {name: each for name, each in named.items() if name not in _OF_SWEEP}

    @property
    def required(self) -> Sequence[str]:
        """Options that have to be given, without the argument."""
        return [name for name, each in self.parameters.items() if each.required and name != self.argument]

    def problems(self, name: str, value: Value) -> Iterator[InputError]:
        """Yield what is wrong with an option, as the command line would say it."""
        if name not in self.parameters:
            yield unknown(f"option of {self.name}", name, list(self.parameters))
            return
        parameter, where = self.parameters[name], f"{self.name}.{name} = {json.dumps(value)}"
        if _is_switch(parameter):
            if not isinstance(value, bool):
                yield InputError(where, "it is a switch: give true or false")
            return
        if value is False and name not in self.required:
            return
        if isinstance(value, bool):
            yield InputError(where, "it takes a value: give one, or false to leave it out")
            return
        try:
            self._check(parameter, str(value))
        except click.UsageError as error:
            yield InputError(f"{where}: {' '.join(error.format_message().split())}", "correct the value")
        except StasError as error:
            yield InputError(f"{where}: {error.what}", error.remedy)

    def _check(self, parameter: click.Parameter, text: str) -> None:
        from stas_neuro.chips import load_profile
        from stas_neuro.cli import Settings
        from stas_neuro.data import data_path, load_data

        if self._is_made(text):
            return
        context = click.Context(click.Command(self.name), obj=Settings())
        parameter.process_value(context, (text,) if parameter.multiple else text)
        if parameter.metavar == "DATA" and (path := data_path(text)) is not None and not path.exists():
            load_data(text)  # says what is wrong
        if parameter.metavar == "NAME|FILE":
            load_profile(text)
        if isinstance(parameter.type, click.Path):
            path = _path_of(parameter, text)
            if not path.exists():
                raise InputError(f"{path} does not exist", "give an existing path")

    def file(self, name: str, value: Value) -> Path | None:
        """Return the file or directory that an option names; None if it names none."""
        from stas_neuro.data import data_path

        parameter = self.parameters[name]
        if not isinstance(value, str) or _is_switch(parameter) or self._is_made(value):
            return None
        if parameter.metavar == "DATA":
            path = data_path(value)
            return None if path is None else _existing(path)
        return _existing(_path_of(parameter, value))

    def _is_made(self, text: str) -> bool:
        """Tell whether a value is, or is inside, what the step before will make."""
        return self.product is not None and self.product in text

    def words(self, options: Options, made: Mapping[str, Path]) -> list[str]:
        """Return the command with its argument and options as words of a command line."""
        found = [self.name]
        if self.argument is not None:
            text = str(options.get(self.argument, self.product))
            place = "" if self.follows is None else str(made.get(self.follows, ""))
            found.append(text if self.product is None else text.replace(self.product, place))
        for name, value in options.items():
            parameter = self.parameters[name]
            if name == self.argument:
                continue
            if _is_switch(parameter):
                found += [f"--{name}"] if value else list(parameter.secondary_opts[:1])
            elif value is not False:
                found += [f"--{name}", str(value)]
        return found


@dataclass(frozen=True)
class MeasureKind:
    """A function of the user, `file.py:function`, as a kind of step. Its options are its keywords."""

    name: str = "measure"
    argument: str | None = None
    follows: str | None = None
    leaf: bool = True
    required: Sequence[str] = (FUNCTION,)

    def problems(self, name: str, value: Value) -> Iterator[InputError]:
        """Yield what is wrong with the function; its keywords are checked with the cells."""
        if name == FUNCTION:
            try:
                function_of(str(value))
            except StasError as error:
                yield InputError(f"measure.function: {error.what}", error.remedy)

    def file(self, name: str, value: Value) -> Path | None:
        """Return the file of the function, or a file or directory that a keyword names."""
        path = str(value).rpartition(":")[0] if name == FUNCTION else value
        return _existing(Path(path)) if isinstance(path, str) else None


TRAIN = CommandKind("train", argument=None, follows=None, leaf=False)
COMPILE = CommandKind("compile", argument="model", follows="train", leaf=False)
RUN = CommandKind("run", argument="bundle", follows="compile", leaf=False)
ESTIMATE = CommandKind("estimate", argument="run", follows="run", leaf=True)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (TRAIN, COMPILE, RUN, MeasureKind(), ESTIMATE)}
"""Kinds of steps, in the order in which a cell goes through them."""
_COMMANDS = {kind.name: kind for kind in (TRAIN, COMPILE, RUN, ESTIMATE)}
_PRODUCTS = {"train": "model", "compile": "bundle.stas", "run": "run"}
"""Names of what commands write into the folder of a step."""


def sweep(
    config: str | Path | Mapping[str, Any],
    directory: str | Path,
    *,
    scheduler: str | None = None,
    jobs: int | None = None,
    retry: bool = False,
    force: bool = False,
    report: Report | None = None,
) -> Swept:
    """Compute all cells of a sweep (docs/sweep.md), and write the results as Parquet.

    Parameters
    ----------
    config : str, Path or mapping
        A TOML file, or its content as plain data.
    directory : str or Path
        Where results and steps are stored. An interrupted sweep continues there.
    scheduler : str, optional
        Address of the scheduler of a Dask cluster, whose workers share this file system. Default: processes
        of this machine.
    jobs : int, optional
        Number of processes, with one thread each. Default: one for each processor.
    retry : bool
        Whether cells that failed are computed again.
    force : bool
        Whether the results of another sweep in the directory are replaced; steps that are the same are kept.
    report : callable, optional
        Called with the number of cells that have a result, and of all cells.

    Returns
    -------
    Swept
        `.results` is the Parquet file, with a row for each cell; `.failed` the number of cells with an error.

    Raises
    ------
    InputError
        If the description is wrong (`lines` has all problems), the directory has another sweep, or no
        scheduler answers.
    """
    from stas_neuro.sweeper import read_plan, run_plan

    plan = read_plan(config if isinstance(config, Mapping) else Path(config), KINDS)
    pool = pool_of(scheduler, jobs)
    return run_plan(plan, Path(directory).resolve(), perform, pool, retry=retry, force=force, report=report)


def pool_of(scheduler: str | None, jobs: int | None) -> AbstractContextManager[Pool]:
    """Return where cells are computed."""
    from stas_neuro.sweeper import cluster, processes

    if scheduler is not None:
        if jobs is not None:
            raise InputError("jobs are processes of this machine, and a scheduler is given", "leave one out")
        return cluster(scheduler)
    return processes(jobs or os.cpu_count() or 1)


def perform(
    kind: str,
    options: Options,
    made: Mapping[str, Path],
    folder: Path | None,
    part: tuple[int, int] | None,
) -> Made:
    """Do a step of a sweep: call a command, a function of the user, or join the parts of a run."""
    from stas_neuro.sweeper import JOIN, Made

    if kind == JOIN:
        assert folder is not None  # only leaves have none
        return _join(options, made, folder)
    if kind == "measure":
        return Made(_measure(options, made))
    words = [*_COMMANDS[kind].words(options, made), *_part_words(options, part)]
    if folder is None:
        return Made(_only(call(words)), None, ("stas-export", *words))
    target = folder / _PRODUCTS[kind]
    given = [*words, "-o", str(target)]
    begun = kind == "train" and target.exists()
    found = call([*given, *(["--resume"] if begun else [])])
    if kind == "train":
        target, found = Path(found["checkpoint"]), _last_epoch(found)
    return Made(found, str(target.relative_to(folder)), ("stas-export", *given))


def _only(found: Any) -> dict[str, Any]:
    """Return the document of an estimate, also of one with --scale-width, which is for one width."""
    if isinstance(found, list):
        (only,) = found
        found = {"width": only["width"], **only["estimate"]}
    document: dict[str, Any] = found
    return document


_OUTPUT = threading.Lock()
"""Held while a command prints: its output is that of the whole process, which may have several threads."""


def call(words: Sequence[str]) -> Any:
    """Call a command in this process, and return its JSON document.

    Raises
    ------
    StepFailed
        With the error that the command prints.
    """
    from stas_neuro.cli import main

    out, err = StringIO(), StringIO()
    with _OUTPUT, redirect_stdout(out), redirect_stderr(err):
        code = main([*words, "--json", "--quiet"])
    if code:
        lines = [line for line in err.getvalue().splitlines() if line.strip()]
        text = next((line for line in reversed(lines) if line.startswith("error: ")), "\n".join(lines))
        raise StepFailed(text.removeprefix("error: "), f"call it: stas-export {shlex.join(words)}")
    return json.loads(out.getvalue())


def _part_words(options: Options, part: tuple[int, int] | None) -> list[str]:
    """Return the options that select the images of a part of a run, which precede its own."""
    if part is None:
        return []
    from stas_neuro.data import load_data

    whole = len(load_data(str(options["data"])))
    images = min(int(options["limit"]), whole) if options.get("limit") else whole
    number, parts = part
    first, end = images * number // parts, images * (number + 1) // parts
    if first == end:
        raise InputError(f"{images} images are too few for {parts} shards", f"use at most {images} shards")
    return ["--skip", str(first), "--limit", str(end - first), "--per-image"]


def _join(options: Options, made: Mapping[str, Path], folder: Path) -> Made:
    from stas_neuro.cli.runs import join_runs
    from stas_neuro.sweeper import Made

    parts = sorted((int(name.split()[1]), path) for name, path in made.items() if name.startswith("run "))
    per_image, form = bool(options.get("per-image", False)), str(options.get("activity", "json"))
    joined = join_runs([path for _, path in parts], folder / "run", per_image=per_image, form=form)
    return Made(joined, "run")


def _last_epoch(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a training with those of its last epoch."""
    last = document["epochs"][-1] if document["epochs"] else {}
    facts = {name: value for name, value in document.items() if name not in ("epochs", "checkpoint")}
    return facts | {name: value for name, value in last.items() if name not in ("event", "stage", "epoch")}


def _measure(options: Options, made: Mapping[str, Path]) -> dict[str, Any]:
    """Call a function of the user with what earlier steps made, as far as it takes that, and its options."""
    function = function_of(str(options[FUNCTION]))
    takes = inspect.signature(function).parameters
    words: dict[str, Any] = {
        name.replace("-", "_"): value for name, value in options.items() if name != FUNCTION
    }
    products = {"checkpoint": made.get("train"), "bundle": made.get("compile"), "run": made.get("run")}
    words |= {name: path for name, path in products.items() if path is not None and name in takes}
    try:
        inspect.signature(function).bind(**words)
    except TypeError as error:
        raise InputError(f"{options[FUNCTION]}: {error}", f"it takes {', '.join(takes)}") from error
    found = function(**words)
    if not isinstance(found, Mapping):
        what = f"{options[FUNCTION]} returned {type(found).__name__}"
        raise InputError(what, "return a dict of numbers and texts by name")
    return {str(name): value.item() if hasattr(value, "item") else value for name, value in found.items()}


_FUNCTIONS: dict[tuple[str, int], Callable[..., Any]] = {}
"""Functions by their names and the times at which their files were changed."""


def function_of(text: str) -> Callable[..., Any]:
    """Return the function that `file.py:function` names; the code of the file is executed, once."""
    file, given, name = text.rpartition(":")
    path = Path(file)
    if not given or path.suffix != ".py" or not path.is_file():
        raise InputError(f"{text!r} is no function of an existing file", "give file.py:function")
    key = text, path.stat().st_mtime_ns
    if key in _FUNCTIONS:
        return _FUNCTIONS[key]
    spec = importlib.util.spec_from_file_location(f"stas_sweep_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # the file exists
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        with without_norse_warning():
            spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{path}: {type(error).__name__}: {error}", "correct the file") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise unknown(
            f"function in {path}", name, [each for each in vars(module) if not each.startswith("_")]
        )
    _FUNCTIONS[key] = function
    found: Callable[..., Any] = function
    return found


def _path_of(parameter: click.Parameter, text: str) -> Path:
    """Return the path that a value names: a file of code, the directory of a shipped model, or itself."""
    from stas_neuro.importers import file_of, find_model, is_factory

    if is_factory(text):
        return file_of(text)
    return Path(find_model(text) if parameter.type is MODEL else text)


def _existing(path: Path) -> Path | None:
    try:
        return path if path.exists() else None
    except OSError:  # a text that is too long for a path
        return None


def _is_switch(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option) and parameter.is_flag
