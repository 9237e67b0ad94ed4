"""Published measurements, read from the data files in this package."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import ClassVar

from stas_neuro.files import parse_json

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

_REMEDY = "install stas-neuro again"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run. Powers are in W, for all cores in use; `management_power_w` is for the other processors."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    step_s: float
    dynamic_power_w: float
    static_power_w: float
    name: str = ""
    date: str = ""
    steps: int = 0
    management_power_w: float | None = None

    @property
    def step_energy_j(self) -> float:
        """Dynamic energy of a step in J."""
        return self.dynamic_power_w * self.step_s


@dataclass(frozen=True, kw_only=True)
class CoreCounts:
    """Counts of one core over all counted steps; None where the plot does not show a value."""

    core: int
    layer: str
    neurons: int
    synops: int | None
    updates: int | None
    spikes: int | None


@dataclass(frozen=True, kw_only=True)
class PilotNet:
    """PilotNet on Loihi 2: `runs` differ in the measuring software; `cores` belong to the last run."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    title: str
    chip: str
    source: str
    note: str
    steps_counted: int
    runs: tuple[Measured, ...]
    left_out: dict[str, str]
    cores: tuple[CoreCounts, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Quartz:
    """Quartz on Loihi: `runs` differ in the steps per sample, and otherwise do the same work."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    title: str
    chip: str
    source: str
    note: str
    neurons: int
    pixels: int
    cores: int
    runs: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class LoihiRun:
    """A run on Loihi; None where a quantity was not published, and 0 neurons where they were not."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    title: str
    source: str
    note: str
    chips: int
    cores: int
    neurons: int | None = None
    step_s: float | None = None
    static_power_w: float | None = None
    dynamic_power_w: float | None = None
    management_power_w: float | None = None


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Search for nearest neighbours on Loihi: counts of an inference, synaptic operations from and to."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    title: str
    source: str
    chips: int
    cores: int
    neurons: int
    synops: tuple[int, int]
    dynamic_energy_j: float
    static_power_w: float


@dataclass(frozen=True, kw_only=True)
class Resting:
    """Power of a chip at rest."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    title: str
    source: str
    note: str
    static_power_w: float


@dataclass(frozen=True)
class _Published:
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    pilotnet: PilotNet
    quartz: Quartz
    loihi: tuple[LoihiRun, ...]
    nearest: Nearest
    speck: Resting
    sources: dict[str, str]


def pilotnet() -> PilotNet:
    """Return the measured runs of PilotNet and the counts of its cores."""
    published = _published()
    rows = csv.DictReader(io.StringIO(_read("pilotnet_cores.csv")))
    cores = tuple(
        CoreCounts(
            core=int(row["core"]),
            layer=row["layer"],
            neurons=int(row["neurons"]),
            synops=_integer(row["synops"]),
            updates=_integer(row["updates"]),
            spikes=_integer(row["spikes"]),
        )
        for row in rows
    )
    known = published.pilotnet
    return replace(known, source=published.sources[known.source], cores=cores)


def quartz() -> Quartz:
    """Return the measured runs of Quartz."""
    published = _published()
    known = published.quartz
    return replace(known, source=published.sources[known.source])


def loihi_runs() -> tuple[LoihiRun, ...]:
    """Return the measured runs on Loihi whose spikes are not published."""
    published = _published()
    return tuple(replace(run, source=published.sources[run.source]) for run in published.loihi)


def nearest() -> Nearest:
    """Return the measured search for nearest neighbours."""
    published = _published()
    return replace(published.nearest, source=published.sources[published.nearest.source])


def speck() -> Resting:
    """Return the measured power of Speck at rest."""
    published = _published()
    return replace(published.speck, source=published.sources[published.speck.source])


@cache
def _published() -> _Published:
    document = tomllib.loads(_read("published.toml"))
    return parse_json(_Published, json.dumps(document).encode(), "published.toml", _REMEDY)


def _read(name: str) -> str:
    return (files("stas_neuro.validation") / name).read_text(encoding="utf-8")


def _integer(text: str) -> int | None:
    return int(text) if text else None
