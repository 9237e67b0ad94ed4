"""The file that describes a sweep, checked as a whole before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stas_neuro.errors import InputError, unknown
from stas_neuro.files import read_bytes, toml_table
from stas_neuro.sweeper.plan import Axis, Kind, Plan, Value

TOGETHER, SHARDS = "together", "shards"
"""Entries of the file that are no kinds of steps: options that change together, and parts of each run."""
SHARDS_LIMIT = 10_000
_REMEDY = "correct the file; docs/sweep.md describes it"
Kinds = Mapping[str, Kind]


def read_plan(source: Path | Mapping[str, Any], kinds: Kinds) -> Plan:
    """Read the description of a sweep.

    Parameters
    ----------
    source : Path or mapping
        A TOML file, or its content as plain data.
    kinds : mapping of name to Kind
        All kinds of steps, in the order in which a cell goes through them.

    Raises
    ------
    InputError
        If the description is wrong; its `lines` are all problems.
    """
    where = "the sweep" if isinstance(source, Mapping) else str(source)
    given = toml_table(read_bytes(source), where, _REMEDY) if isinstance(source, Path) else source
    read = _Reader(given, kinds)
    problems = list({str(each): each for each in read.problems()}.values())
    if problems:
        first, more = problems[0], len(problems) - 1
        others = f" (and {more} more problem{'s' if more > 1 else ''})" if more else ""
        error = InputError(f"{where}: {first.what}{others}", first.remedy)
        error.lines = tuple(str(each) for each in problems) if more else ()
        raise error
    return read.plan()


class _Reader:
    def __init__(self, given: Mapping[str, Any], kinds: Kinds) -> None:
        self.given = given
        self.known = kinds
        self.shards = given.get(SHARDS, 1)
        self.together = given.get(TOGETHER, [])
        self.kinds = [kind for name, kind in kinds.items() if name in given]

    def problems(self) -> Iterator[InputError]:
        names = (*self.known, TOGETHER, SHARDS)
        for name, value in self.given.items():
            if name not in names:
                yield unknown("step or entry", name, names)
            elif name in self.known and not isinstance(value, Mapping):
                yield InputError(f"{name} is {value!r}", f"write a table: [{name}]")
        if not self.kinds:
            yield InputError("there is no step", f"give a table for one or more of {', '.join(self.known)}")
        if type(self.shards) is not int or not 1 <= self.shards <= SHARDS_LIMIT:
            yield InputError(f"shards is {self.shards!r}", f"give a number from 1 to {SHARDS_LIMIT}")
        elif self.shards > 1 and "run" not in self.given:
            yield InputError(f"shards is {self.shards}, and there is no run to split", "give a table [run]")
        if any(not isinstance(self.given[kind.name], Mapping) for kind in self.kinds):
            return
        paired = list(self._together_problems())
        yield from paired
        if paired:
            return
        for kind in self.kinds:
            yield from self._kind_problems(kind)

    def _kind_problems(self, kind: Kind) -> Iterator[InputError]:
        table = self.given[kind.name]
        for name, value in self._entries(kind, table):
            if isinstance(value, list) and not value:
                yield InputError(f"{kind.name}.{name} is an empty list", "give at least one value")
            for each in value if isinstance(value, list) else [value]:
                yield from self._value_problems(kind, name, each)
        paired = {name for one in self.together for name, _ in self._entries(kind, one.get(kind.name))}
        needed = [*kind.required]
        if kind.argument is not None and kind.follows not in self.given:
            needed.append(kind.argument)
        for name in needed:
            if name not in {_plain(each) for each in table} | paired:
                yield InputError(f"{kind.name}.{name} is not given", f"give it in the table [{kind.name}]")

    def _value_problems(self, kind: Kind, name: str, value: Any) -> Iterator[InputError]:
        if not isinstance(value, str | int | float | bool):
            yield InputError(f"{kind.name}.{name} is {value!r}", "give a text, a number, true or false")
            return
        product = f"{{{kind.follows}}}"
        if name == kind.argument and kind.follows in self.given and product not in str(value):
            what = f"{kind.name}.{name} is {value!r}, and the step {kind.follows} makes one"
            yield InputError(what, f"leave out one of the two, or give a path in {product}")
            return
        yield from kind.problems(name, value)

    def _together_problems(self) -> Iterator[InputError]:
        if not isinstance(self.together, list) or not all(isinstance(one, Mapping) for one in self.together):
            yield InputError(f"{TOGETHER} is no list of tables", f"begin each with [[{TOGETHER}]]")
            return
        seen: set[tuple[str, str]] = set()
        for table in self.together:
            lengths = {}
            for kind_name, options in table.items():
                if kind_name not in self.known or kind_name not in self.given:
                    yield unknown(f"step in {TOGETHER}", kind_name, [kind.name for kind in self.kinds])
                    continue
                for name, values in self._entries(self.known[kind_name], options):
                    label = kind_name, name
                    alone = any(_plain(each) == name for each in self.given[kind_name])
                    if label in seen or alone:
                        yield InputError(f"{kind_name}.{name} is given twice", "leave one of them out")
                    seen.add(label)
                    if not isinstance(values, list) or not values:
                        yield InputError(f"{TOGETHER}: {kind_name}.{name} is {values!r}", "give a list")
                        continue
                    lengths[f"{kind_name}.{name}"] = len(values)
                    for each in values:
                        yield from self._value_problems(self.known[kind_name], name, each)
            if len(set(lengths.values())) > 1:
                told = ", ".join(f"{name} has {count}" for name, count in lengths.items())
                yield InputError(f"{TOGETHER}: {told} values", "give as many of each")

    def _entries(self, kind: Kind, table: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(table, Mapping):
            yield from ((_plain(name), value) for name, value in table.items())

    def _axes_together(self) -> Iterator[Axis]:
        for table in self.together:
            named = [
                ((kind.name, name), values)
                for kind in self.kinds
                for name, values in self._entries(kind, table.get(kind.name))
            ]
            if named:
                yield Axis(
                    tuple(name for name, _ in named), tuple(zip(*(each for _, each in named), strict=True))
                )

    def plan(self) -> Plan:
        fixed: dict[str, dict[str, Value]] = {kind.name: {} for kind in self.kinds}
        axes = [*self._axes_together()]
        for kind in self.kinds:
            for name, value in self._entries(kind, self.given[kind.name]):
                if isinstance(value, list):
                    axes.append(Axis(((kind.name, name),), tuple((each,) for each in value)))
                else:
                    fixed[kind.name][name] = value
        order = [kind.name for kind in self.kinds]
        axes.sort(key=lambda axis: order.index(axis.names[0][0]))  # stable: as written within a kind
        return Plan(kinds=tuple(self.kinds), fixed=fixed, axes=tuple(axes), shards=self.shards)


def _plain(name: str) -> str:
    """Return the name of an option with dashes, as on the command line."""
    return name.replace("_", "-")
