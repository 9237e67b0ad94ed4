"""Data classes of an estimate, with SI units in the field names. docs/energy.md defines every field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stas_neuro.chips.capabilities import Finding
from stas_neuro.display import HtmlTable, Plotted, si, with_ends
from stas_neuro.energy.figures import Figures, disclaimer_of
from stas_neuro.errors import unknown
from stas_neuro.frames import flat, to_frame

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Interval:
    """A value with its lower and upper bound."""

    value: float
    low: float
    high: float


def interval(corners: npt.NDArray[np.float64]) -> Interval:
    """Make an interval from an array (low, value, high)."""
    low, value, high = corners.tolist()
    return Interval(value=value, low=low, high=high)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Distribution of a quantity over images: median, 99th percentile and maximum."""

    median: Interval
    p99: Interval
    worst: Interval


@dataclass(frozen=True, kw_only=True)
class EventCost:
    """One kind of event: its mean count and energy per image, and the source of its price."""

    event: str
    count: float
    energy_j: Interval
    entry: str
    basis: str
    source: str
    halting: bool


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One layer of the network: dynamic energy per image, and number of cores with neurons that it feeds."""

    name: str
    kind: str
    scope: str
    dynamic_energy_j: Interval
    cores: int | None


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """One step of the record; means per image."""

    step: str
    dynamic_energy_j: Interval
    hardware_steps: int | None
    latency_s: Interval | None


@dataclass(frozen=True, kw_only=True)
class CoreCost:
    """One core; means per image. `core` is None for work outside the cores."""

    core: int | None
    chip: int | None
    layers: tuple[str, ...]
    dynamic_energy_j: Interval
    core_steps: float | None
    busy_time_share: float | None


@dataclass(frozen=True, kw_only=True)
class TokenCost:
    """One token; means per image. docs/energy.md defines how energy is divided among tokens."""

    token: int
    visits: float
    dynamic_energy_j: Interval


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Totals of a price under another assumption."""

    energy_j: Interval | None
    dynamic_energy_j: Interval | None
    latency_s: Interval | None
    throughput_images_per_s: Interval | None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Totals of a price with another structure; `change` completes "if ..."."""

    change: str
    totals: Totals


@dataclass(frozen=True, kw_only=True)
class StructuralRange:
    """Values of a price, with the lowest and highest of its variants; all at the values of the profile."""

    energy_j: Interval | None
    dynamic_energy_j: Interval | None
    latency_s: Interval | None


TOTALS = (
    ("energy_j", "energy", "J"),
    ("dynamic_energy_j", "  dynamic", "J"),
    ("halting_energy_j", "    for halting", "J"),
    ("static_energy_j", "  static", "J"),
    ("management_energy_j", "  management", "J"),
    ("latency_s", "latency", "s"),
    ("management_latency_s", "  managing processors", "s"),
    ("energy_delay_product_js", "energy x delay", "Js"),
    ("throughput_images_per_s", "images per second", ""),
    ("static_power_w", "static power", "W"),
    ("management_power_w", "management power", "W"),
    ("op_count_energy_j", "45 nm operation count", "J"),
)
"""Fields of an `Estimate`, their names in reports (indented below the sum they belong to), and units."""
PARTS: Mapping[str, str] = {
    "totals": "",
    "events": "events",
    "layers": "layers",
    "steps": "steps",
    "cores": "cores_breakdown",
    "tokens": "tokens",
}
"""What an estimate can be divided into, and the field of each."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimate(Plotted):
    """Cost of one inference, mean over the images unless the field name says otherwise.

    `what_if` has the reasons why the chip does not support the network, as far as the record of the run shows
    them; if there are any, the cost is a what-if. None if this is unknown.

    `figures` are the profile entries that the cost depends on, and `disclaimer` states their basis.
    """

    disclaimer: str = field(init=False)
    figures: Figures
    profile: str
    profile_title: str
    gating: str
    schedule: str
    mode: str
    contexts: int
    replicas: int
    early_end: bool
    stem: str
    microcode: bool
    idle_update: str
    idle_update_of_chip: str
    weight_bits: int
    images: int
    token_ratio: float | None
    what_if: tuple[Finding, ...] | None
    energy_j: Interval | None
    dynamic_energy_j: Interval | None
    halting_energy_j: Interval | None
    visit_energy_j: Interval | None
    static_energy_j: Interval | None
    management_energy_j: Interval | None
    latency_s: Interval | None
    management_latency_s: Interval | None
    idle_skipped: Totals | None
    variants: tuple[Variant, ...]
    structural_range: StructuralRange | None
    energy_delay_product_js: Interval | None
    throughput_images_per_s: Interval | None
    static_power_w: Interval | None
    management_power_w: Interval | None
    op_count_energy_j: Interval
    energy_per_image_j: Spread | None
    dynamic_energy_per_image_j: Spread | None
    latency_per_image_s: Spread | None
    hardware_steps: int | None
    hardware_steps_per_image: float | None
    cores: int | None
    chips: int | None
    core_steps: float | None
    core_steps_gated: float | None
    neuron_updates_gated: float | None
    busiest_core_layers: tuple[str, ...]
    busiest_core_time_share: float | None
    events: tuple[EventCost, ...]
    layers: tuple[LayerCost, ...]
    steps: tuple[StepCost, ...]
    cores_breakdown: tuple[CoreCost, ...]
    tokens: tuple[TokenCost, ...]
    unavailable: dict[str, str]
    assumptions: tuple[str, ...]
    sources: dict[str, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "disclaimer", disclaimer_of([self.figures]))

    def to_frame(self, part: str = "totals") -> pandas.DataFrame:
        """Return a data frame of pandas.

        Parameters
        ----------
        part : str
            "totals": the rows are quantities, with value, low, high and the SI unit. "events", "layers",
            "steps", "cores" or "tokens": the rows are these, means of an image; an interval is three columns,
            name, name_low and name_high.

        Raises
        ------
        InputError
            When there is no such part, or pandas is not installed.
        """
        if part not in PARTS:
            raise unknown("part", part, PARTS)
        if part != "totals":
            return to_frame(map(flat, getattr(self, PARTS[part])))
        return to_frame(
            {"quantity": name.strip(), **_corners(getattr(self, field)), "unit": unit}
            for field, name, unit in TOTALS
        )

    def _headline(self) -> str:
        energy = self.energy_j or self.dynamic_energy_j
        what = "energy" if self.energy_j else "dynamic energy"
        latency = f", latency {with_ends(self.latency_s, 's')}" if self.latency_s else ""
        price = f"{what} {with_ends(energy, 'J')}{latency}"
        return f"{self.profile}: {price} of an image, {self.images} images; {self.disclaimer}"

    def _tables(self) -> Iterable[HtmlTable]:
        found = [(name.strip(), getattr(self, field), unit) for field, name, unit in TOTALS]
        rows = [
            (name, si(each.value, unit), si(each.low, unit), si(each.high, unit))
            for name, each, unit in found
            if each is not None
        ]
        title = f"{self.profile_title}, gating {self.gating}, {self.schedule}, {self.mode}"
        yield HtmlTable(rows, ("of an image", "value", "low", "high"), title)
        if self.unavailable:
            reasons = dict.fromkeys(self.unavailable.values())
            yield HtmlTable([(reason,) for reason in reasons], ("not priced, because",))

    def _note(self) -> str:
        wrong = "" if not self.what_if else f"A what-if: {self.profile} cannot run this network. "
        return f"{wrong}All figures are {self.disclaimer}."

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists for `json.dumps`; an interval is {"value", "low", "high"}."""
        document: dict[str, Any] = _plain(self)
        return document


def _corners(found: Interval | None) -> dict[str, float | None]:
    return {end: getattr(found, end, None) for end in ("value", "low", "high")}


def _plain(value: Any) -> Any:
    """Do as `dataclasses.asdict`, but without copying leaves, which is slow for many thousand cores."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return dict(value)
    if not is_dataclass(value):
        return value
    return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
