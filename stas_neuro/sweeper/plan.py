"""The cells of a sweep, and the steps that they consist of; each has a number, none is stored."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stas_neuro import __version__
from stas_neuro.errors import InputError

Value = str | int | float | bool
"""Value of an option; False leaves an option out that is no switch."""
Options = Mapping[str, Value]
CELLS_LIMIT = 10**8
"""Largest number of cells: one byte of each is in memory."""
JOIN = "join"
"""Kind of the step that joins the shards of a run."""


class Kind(Protocol):
    """One kind of step, such as `compile`."""

    @property
    def name(self) -> str:
        """Name of the table that has its options."""

    @property
    def argument(self) -> str | None:
        """The option that names what the step works on."""

    @property
    def follows(self) -> str | None:
        """The kind of step that makes what `argument` names, if the sweep has one."""

    @property
    def leaf(self) -> bool:
        """Whether it leaves nothing but a result: it is computed with each cell, and not stored."""

    @property
    def required(self) -> Sequence[str]:
        """Options that have to be given."""

    def problems(self, name: str, value: Value) -> Iterator[InputError]:
        """Yield what is wrong with an option: its name, or its value."""

    def file(self, name: str, value: Value) -> Path | None:
        """Return the existing file or directory that an option names; None if it names none."""


@dataclass(frozen=True)
class Axis:
    """Options that change together, as (kind, name), and the values of each point of the axis."""

    names: tuple[tuple[str, str], ...]
    values: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Column:
    """An option that changes, such as `compile.epsilon`: its values, and how many cells each is kept for."""

    name: str
    values: tuple[Value | None, ...]
    repeats: int

    def places(self, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return which of the values each cell has."""
        return cells // self.repeats % len(self.values)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step that is stored, as its results are shared by cells.

    Parameters
    ----------
    kind : str
    options : mapping
        Options that were given.
    needs : tuple of str
        Names of the steps whose results it uses, the earliest first.
    part : (int, int) or None
        With shards: which of how many parts of a run it is.
    name : str
        The kind and a hash of everything that the result depends on.
    """

    kind: str
    options: Options
    needs: tuple[str, ...]
    part: tuple[int, int] | None
    name: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All cells of a sweep: the product of its axes, the last axis changing fastest.

    Parameters
    ----------
    kinds : tuple of Kind
        Kinds of steps of each cell, in order.
    fixed : mapping of kind to options
        Options that are the same in all cells.
    axes : tuple of Axis
        In the order of the kinds that they concern first, so that cells with the same steps are neighbours.
    shards : int
        Number of parts into which each run is split.

    Raises
    ------
    InputError
        If there are too many cells.
    """

    kinds: tuple[Kind, ...]
    fixed: Mapping[str, Options]
    axes: tuple[Axis, ...]
    shards: int = 1

    def __post_init__(self) -> None:
        if self.count > CELLS_LIMIT:
            raise InputError(f"the axes have {self.count} combinations", f"use at most {CELLS_LIMIT}")

    @cached_property
    def count(self) -> int:
        """Number of cells."""
        return math.prod(self._sizes)

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(len(axis.values) for axis in self.axes)

    @cached_property
    def leaf(self) -> Kind | None:
        """The kind of step that is computed with each cell; None if all steps are stored."""
        return self.kinds[-1] if self.kinds[-1].leaf else None

    @cached_property
    def stored(self) -> tuple[Kind, ...]:
        """The kinds of steps that are stored."""
        return self.kinds[:-1] if self.leaf else self.kinds

    @cached_property
    def _inner(self) -> int:
        """Number of the last axes that concern only the leaf."""
        leaf = self.leaf
        return sum(leaf is not None and axis.names[0][0] == leaf.name for axis in self.axes)

    @cached_property
    def group_size(self) -> int:
        """Number of cells of a group: neighbours that differ only in the options of their leaf."""
        return math.prod(self._sizes[len(self.axes) - self._inner :])

    def options(self, cell: int, kind: str) -> dict[str, Value]:
        """Return the options of a kind of step in a cell."""
        found = dict(self.fixed.get(kind, {}))
        for axis, place in zip(self.axes, self._places(cell), strict=True):
            for (of, name), value in zip(axis.names, axis.values[place], strict=True):
                if of == kind:
                    found[name] = value
        return found

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The axes as columns of the results."""
        found = []
        for at, axis in enumerate(self.axes):
            for index, (kind, name) in enumerate(axis.names):
                values = _shown([row[index] for row in axis.values])
                found.append(Column(f"{kind}.{name}", tuple(values), math.prod(self._sizes[at + 1 :])))
        return tuple(found)

    def digest(self) -> str:
        """Return a hash of all that the results depend on, with the files that options name."""
        given = {kind.name: dict(self.fixed.get(kind.name, {})) for kind in self.kinds}
        axes = [[axis.names, axis.values] for axis in self.axes]
        files = [self._content(kind, name, value) for kind, name, value in self._values()]
        return _hash([given, axes, self.shards, files])

    def inputs(self) -> list[Path]:
        """Return the files and directories that options name."""
        found = [kind.file(name, value) for kind, name, value in self._values()]
        return [path for path in dict.fromkeys(found) if path is not None]

    def _values(self) -> Iterator[tuple[Kind, str, Value]]:
        kinds = {kind.name: kind for kind in self.kinds}
        for kind in self.kinds:
            yield from ((kind, name, value) for name, value in self.fixed.get(kind.name, {}).items())
        for axis in self.axes:
            for row in axis.values:
                for (of, name), value in zip(axis.names, row, strict=True):
                    yield kinds[of], name, value

    def _places(self, cell: int) -> list[int]:
        places = []
        for size in reversed(self._sizes):
            cell, place = divmod(cell, size)
            places.append(place)
        return places[::-1]

    def steps(self, cell: int) -> tuple[Step, ...]:
        """Return the steps of a cell that are stored, in order; its group shares them."""
        return tuple(self._steps(cell))

    def all_steps(self) -> Iterator[Step]:
        """Yield the steps of all cells that are stored; a step that groups share comes once for each."""
        for first in range(0, self.count, self.group_size):
            yield from self.steps(first)

    def _steps(self, cell: int) -> Iterator[Step]:
        before: tuple[str, ...] = ()
        for kind in self.stored:
            options = self.options(cell, kind.name)
            if kind.name == "run" and self.shards > 1:
                parts = [
                    self._step(kind, options, before, (part, self.shards)) for part in range(self.shards)
                ]
                yield from parts
                step = self._step(kind, options, (*before, *(each.name for each in parts)), None)
            else:
                step = self._step(kind, options, before, None)
            yield step
            before = (*before, step.name)

    def _step(
        self, kind: Kind, options: Options, needs: tuple[str, ...], part: tuple[int, int] | None
    ) -> Step:
        joins = kind.name == "run" and self.shards > 1 and part is None
        files = [self._content(kind, name, value) for name, value in sorted(options.items())]
        digest = _hash([__version__, kind.name, sorted(options.items()), files, needs, part])
        name = JOIN if joins else kind.name
        return Step(kind=name, options=options, needs=needs, part=part, name=f"{kind.name}-{digest[:16]}")

    @cached_property
    def _contents(self) -> dict[tuple[str, str, Value], str | None]:
        return {}

    def _content(self, kind: Kind, name: str, value: Value) -> str | None:
        """Return a hash of the file or directory that an option names; it is read once."""
        key = kind.name, name, value
        if key not in self._contents:
            path = kind.file(name, value)
            self._contents[key] = None if path is None else hash_path(path)
        return self._contents[key]


def hash_path(path: Path) -> str:
    """Return a SHA-256 of a file, or of the names and contents of the files in a directory."""
    digest = hashlib.sha256()
    for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if each.is_file():
            digest.update(str(each.relative_to(path)).encode() + b"\0")
            with each.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _shown(values: Sequence[Value]) -> list[Value | None]:
    """Return the values of an option as a column: None where it is left out."""
    switch = all(isinstance(value, bool) for value in values)
    return uniform([None if value is False and not switch else value for value in values])


def uniform(values: Sequence[Value | None]) -> list[Value | None]:
    """Return values of one type, or None: text if they are mixed, floats if only some are whole numbers."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2:
        return list(values)
    kind = float if kinds <= {int, float} else str
    return [None if value is None else kind(value) for value in values]


def first_cells(plan: Plan, most: int) -> list[dict[str, Value | None]]:
    """Return the values of the axes in the first cells."""
    cells = np.arange(min(plan.count, most))
    return [{each.name: each.values[each.places(cells)[row]] for each in plan.columns} for row in cells]


def chunks(cells: Iterator[int], size: int) -> Iterator[list[int]]:
    """Yield lists of at most `size` cells."""
    while part := list(islice(cells, size)):
        yield part


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
