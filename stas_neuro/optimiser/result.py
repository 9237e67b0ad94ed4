"""Data classes of a search, with SI units in the field names. docs/optimise.md defines every field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from stas_neuro.choices import Goal
from stas_neuro.display import HtmlTable, Plotted, share, with_ends
from stas_neuro.energy import Deployment, Estimate, Interval, Totals, disclaimer_of
from stas_neuro.frames import flat, to_frame
from stas_neuro.optimiser.space import Placing, Variant

if TYPE_CHECKING:
    import pandas

FRONTIER, BEST = "frontier", "best"
"""Roles of points."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a deployment costs; energy x time is the product of the values.

    On a chip whose static power is not published, `energy_j` is that of events only.
    """

    energy_j: Interval
    latency_s: Interval
    throughput_images_per_s: Interval

    @staticmethod
    def of(cost: Estimate | Totals) -> Price | None:
        """Take the prices that are searched by; None if one of them is unknown."""
        energy = cost.dynamic_energy_j if cost.energy_j is None else cost.energy_j
        latency, rate = cost.latency_s, cost.throughput_images_per_s
        if energy is None or latency is None or rate is None:
            return None
        return Price(energy_j=energy, latency_s=latency, throughput_images_per_s=rate)

    def cost(self, objective: Goal) -> float:
        """Return the number that the objective makes small."""
        if objective == "throughput":
            return -self.throughput_images_per_s.value
        if objective == "latency":
            return self.latency_s.value
        return self.energy_j.value * (self.latency_s.value if objective == "edp" else 1.0)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A deployment as predicted, from the images that deployments are chosen on.

    `sample` are the numbers of those, among these, whose activity was priced.
    """

    variant: Variant
    placing: Placing
    deployment: Deployment
    accuracy: float
    visits: float
    cores: int
    price: Price
    sample: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A candidate that was compiled, run on the images of the other part, and priced.

    `roles` are why it is a point: `frontier`, `best`, and the kinds of rivals that it is the best of.
    `accuracy_low` and `accuracy_high` are the 95 % interval of accuracy (Wilson). `errors` is predicted /
    priced - 1 by field, and `errors_same_images` the same where the images of the prediction are priced: what
    is left of the error without the difference between images. `p_value` is that of McNemar's exact test of
    equal accuracy with the full network of the same model, None for itself. `bundle` is the path of the
    bundle, if it was written.
    """

    candidate: Candidate
    roles: tuple[str, ...]
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    p_value: float | None
    price: Price
    estimate: Estimate = field(repr=False)
    errors: Mapping[str, float]
    errors_same_images: Mapping[str, float]
    bundle: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists for `json.dumps`."""
        known, what_if, structure = self.candidate, self.estimate.what_if, self.estimate.structural_range
        return {
            "roles": list(self.roles),
            "network": known.variant.name,
            "model": known.variant.model,
            "family": known.variant.family,
            "compile_options": dict(known.variant.options) | asdict(known.placing),
            "deployment": asdict(known.deployment),
            "cores": known.cores,
            "chips": self.estimate.chips,
            "visits": known.visits,
            "accuracy_chosen": known.accuracy,
            "accuracy": self.accuracy,
            "accuracy_interval": [self.accuracy_low, self.accuracy_high],
            "p_value": self.p_value,
            "predicted": asdict(known.price),
            "price": asdict(self.price),
            "errors": dict(self.errors),
            "errors_same_images": dict(self.errors_same_images),
            "structural_range": None if structure is None else asdict(structure),
            "what_if": None if what_if is None else [asdict(each) for each in what_if],
            "assumptions": list(self.estimate.assumptions),
            "disclaimer": self.estimate.disclaimer,
            "bundle": self.bundle,
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class Optimised(Plotted):
    """Result of a search.

    `points` are those of the frontier, which no other deployment beats in accuracy, energy and latency as
    predicted, in the order of energy; then the best rivals that are not among them. `events_only` is why
    energies are of events only, None where they are whole. `refused` counts networks and deployments that
    cannot be, by reason; `left_out` points of the frontier that were not compiled.
    """

    profile: str
    mode: str
    objective: Goal
    least_accuracy: float
    events_only: str | None
    images: tuple[int, int]
    networks: int
    deployments: int
    refused: Mapping[str, int]
    seconds: float
    points: tuple[Point, ...]
    left_out: int

    @property
    def name(self) -> str:
        """The chip and the mode."""
        return f"{self.profile}-{self.mode}"

    @property
    def best(self) -> Point | None:
        """The point that the objective prefers, among those that are accurate enough; None without any."""
        return next((point for point in self.points if BEST in point.roles), None)

    def to_frame(self) -> pandas.DataFrame:
        """Return a data frame of pandas with a row for each point; intervals as value, _low and _high."""
        return to_frame(
            {
                "network": point.candidate.variant.name,
                "model": point.candidate.variant.model,
                "roles": ", ".join(point.roles),
                "accuracy": point.accuracy,
                "accuracy_low": point.accuracy_low,
                "accuracy_high": point.accuracy_high,
                "visits": point.candidate.visits,
                "cores": point.candidate.cores,
                **flat(point.price),
                "bundle": point.bundle,
            }
            for point in self.points
        )

    def _headline(self) -> str:
        tried = f"{self.deployments} deployments of {self.networks} networks"
        best = self.best
        found = "none is accurate enough"
        if best is not None:
            cost = with_ends(best.price.energy_j, "J")
            found = f"best: {best.candidate.variant.name}, accuracy {share(best.accuracy)}, {cost}"
        return f"{self.profile}, {self.mode}: {len(self.points)} points of {tried}; {found}; {self._basis}"

    @property
    def _basis(self) -> str:
        return disclaimer_of(point.estimate.figures for point in self.points)

    def _tables(self) -> Iterable[HtmlTable]:
        rows = [
            (
                point.candidate.variant.name,
                ", ".join(point.roles),
                f"{share(point.accuracy)} ({share(point.accuracy_low)} to {share(point.accuracy_high)})",
                with_ends(point.price.energy_j, "J"),
                with_ends(point.price.latency_s, "s"),
            )
            for point in self.points
        ]
        energy = "energy" if self.events_only is None else "energy of events"
        yield HtmlTable(
            rows, ("network", "roles", "accuracy", energy, "latency"), f"{self.profile}, {self.mode}"
        )

    def _note(self) -> str:
        return f"Energies and times are {self._basis}."

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists for `json.dumps`."""
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        return kept | {
            "images": list(self.images),
            "refused": dict(self.refused),
            "points": [point.to_json() for point in self.points],
        }
