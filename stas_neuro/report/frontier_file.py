"""Frontiers as files: what reports read of the ``frontier.json`` that ``stas-export optimise`` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro.documents import BadDocument, parse_json
from stas_neuro.energy import Interval, StructuralRange
from stas_neuro.errors import InputError
from stas_neuro.files import parse_json as parse_as
from stas_neuro.files import read_bytes

if TYPE_CHECKING:
    from stas_neuro.optimiser import Optimised

FRONTIER_FILE = "frontier.json"
_REMEDY = "give a directory that `optimise` of this version wrote"
_FAMILIES = {
    "full": "no halting",
    "static": "fewer steps",
    "image": "image exit",
    "image pipelined": "image exit, pipelined",
}


@dataclass(frozen=True, kw_only=True)
class PointPrice:
    """What a deployment costs."""

    energy_j: Interval
    latency_s: Interval
    throughput_images_per_s: Interval


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """A point of a frontier; `stas_neuro.optimiser.Point` explains the fields."""

    roles: tuple[str, ...]
    network: str
    model: str
    family: str
    deployment: Mapping[str, Any]
    cores: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    price: PointPrice
    structural_range: StructuralRange | None
    disclaimer: str

    @property
    def family_words(self) -> str:
        """The model, if it is a rival, and how it halts."""
        return family_words(self.model, self.family)


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """A frontier; `stas_neuro.optimiser.Optimised` explains the fields. `name` is that of its directory."""

    profile: str
    mode: str
    objective: str
    events_only: str | None
    images: tuple[int, int]
    networks: int
    deployments: int
    points: tuple[FrontierPoint, ...]
    name: str = ""


def family_words(model: str, family: str) -> str:
    """Name the model of a point, if it is a rival, and how it halts."""
    policy, late = family.removesuffix(" late"), family.endswith(" late")
    how = _FAMILIES.get(policy, f"{policy} halting") + (", late decisions" if late else "")
    return f"{model}: {how}" if model else how


def frontier_of(result: Optimised | Frontier) -> Frontier:
    """Return what is drawn of the result of a search."""
    if isinstance(result, Frontier):
        return result
    return parse_as(Frontier, json.dumps(result.to_json()).encode(), "the search", _REMEDY)


def read_frontiers(path: Path) -> tuple[Frontier, ...]:
    """Read the frontiers of an output directory of `optimise`, or of its frontier.json.

    Raises
    ------
    InputError
        When the file is no such file; the message names the field.
    """
    file = path / FRONTIER_FILE if path.is_dir() else path
    content = read_bytes(file)
    try:
        document = parse_json(content)
    except BadDocument as error:
        raise InputError(f"{file}: {error}", _REMEDY) from error
    each = document if isinstance(document, list) else [document]
    name = file.resolve().parent.name
    return tuple(
        replace(parse_as(Frontier, json.dumps(one).encode(), str(file), _REMEDY), name=name) for one in each
    )
