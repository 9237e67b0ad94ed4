"""The result of a search, as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stas_neuro.display import NONE, si
from stas_neuro.report.tables import add_row, disclaimer, lines, new_table

if TYPE_CHECKING:
    from stas_neuro.optimiser import Optimised, Point

_REASONS = 8


def frontier_report(result: Optimised) -> RenderableType:
    """Tabulate the points, what was searched, and how well it was predicted."""
    chosen, reported = result.images
    best = result.best
    head = (
        f"{result.deployments} deployments of {result.networks} networks on {result.profile}, mode "
        f"{result.mode}, in {result.seconds:.0f} s; chosen on {chosen} images, reported on {reported} others"
    )
    parts: list[RenderableType] = [Text(head, style="bold"), Text()]
    for table in _tables(result):
        parts += [table, Text()]
    if result.events_only is not None:
        parts.append(Text(f"energies are those of events only: static power is {result.events_only}"))
    if result.left_out:
        parts.append(Text(f"{result.left_out} more points of the frontier were not compiled (--points)"))
    if best is None:
        what = f"no deployment has an accuracy of {result.least_accuracy:.2%} on the images to choose with"
        parts.append(Text(what))
    else:
        words = f"best {result.objective} with an accuracy of at least {result.least_accuracy:.2%} on the "
        parts.append(Text(f"{words}images it was chosen on: {best.candidate.variant.name}"))
    parts.append(Text("p: McNemar's exact test of equal accuracy with the full network of the same model"))
    if result.points:
        worst = [
            max(abs(point.errors_same_images[name]) for point in result.points)
            for name in ("energy_j", "latency_s")
        ]
        what = "largest error of a prediction on its own images: {:.1%} of the energy, {:.1%} of the latency"
        parts.append(Text(what.format(*worst)))
    if result.refused:
        ordered = sorted(result.refused.items(), key=lambda each: -each[1])
        found = [f"{count} x {reason}" for reason, count in ordered[:_REASONS]]
        rest = len(ordered) - _REASONS
        parts.append(lines("Not possible", [*found, *([f"and {rest} more reasons"] if rest > 0 else [])]))
    if result.points:
        parts.append(disclaimer(result.points[0].estimate.disclaimer))
    return Group(*parts)


def _tables(result: Optimised) -> tuple[Table, ...]:
    """Tabulate what the points are, what they cost, and the rest: narrow tables, that split no word."""
    points = new_table("point", "kind", "network", "deployment", "cores")
    for column in points.columns[1:4]:
        column.justify = "left"
    costs = new_table("point", "accuracy", "95 % interval", "p", "energy", "low", "high", "latency")
    others = new_table(
        "point", "images/s", "energy over\nstructures", "predicted\nenergy", "predicted\nlatency"
    )
    for number, point in enumerate(result.points, 1):
        price, name = point.price, str(number)
        kind, network = ", ".join(point.roles), point.candidate.variant.name
        add_row(points, name, kind, network, deployment_words(point), str(point.candidate.cores))
        add_row(
            costs,
            name,
            f"{point.accuracy:.2%}",
            f"{point.accuracy_low:.1%}..{point.accuracy_high:.1%}",
            NONE if point.p_value is None else f"{point.p_value:.2g}",
            si(price.energy_j.value, "J"),
            si(price.energy_j.low, "J"),
            si(price.energy_j.high, "J"),
            si(price.latency_s.value, "s"),
        )
        errors = (f"{point.errors[name]:+.1%}" for name in ("energy_j", "latency_s"))
        add_row(others, name, si(price.throughput_images_per_s.value, ""), _structures(point), *errors)
    return points, costs, others


def _structures(point: Point) -> str:
    """Say what energies other structures have: idle neurons skipped, or no messages between cores."""
    known = point.estimate.structural_range
    if known is None:
        return NONE
    found = known.dynamic_energy_j if known.energy_j is None else known.energy_j
    return NONE if found is None else f"{si(found.low, 'J')}..{si(found.high, 'J')}"


def deployment_words(point: Point) -> str:
    """Name the placement, and what of the deployment is not the default."""
    known, placing = point.candidate.deployment, point.candidate.placing
    words = [placing.strategy, point.estimate.schedule]
    if point.estimate.gating != "silent":
        words.append(f"gating {point.estimate.gating}")
    if known.contexts > 1:
        words.append(f"{known.contexts} contexts")
    if known.replicas != 1:
        words.append(f"replicas {known.replicas}")
    if known.early_end:
        words.append("early end (assumed)")
    return ", ".join(words)
