"""The result of a search: tables for the terminal, and a picture of accuracy and energy."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from stas_neuro.extras import needs
from stas_neuro.report.png import SOFTWARE
from stas_neuro.report.tables import NONE, add_row, disclaimer, lines, new_table, si

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stas_neuro.optimiser import Optimised, Point

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can distinguish."""
_MARKS = "osD^vP*X"
"""Marks of families, so that they differ without colours too."""
_REASONS = 8


def frontier_report(result: Optimised) -> RenderableType:
    """Tabulate the points, what was searched, and how well it was predicted."""
    chosen, reported = result.images
    best = result.best
    head = (
        f"{result.deployments} deployments of {result.networks} networks on {result.profile}, mode "
        f"{result.mode}, in {result.seconds:.0f} s; chosen on {chosen} images, reported on {reported} others"
    )
    parts: list[RenderableType] = [Text(head, style="bold"), Text(), _table(result), Text()]
    if result.left_out:
        parts.append(Text(f"{result.left_out} more points of the frontier were not compiled (--points)"))
    if best is None:
        what = f"no deployment has an accuracy of {result.least_accuracy:.2%} on the images to choose with"
        parts.append(Text(what))
    else:
        words = f"best {result.objective} with an accuracy of at least {result.least_accuracy:.2%} on the "
        parts.append(Text(f"{words}images it was chosen on: {best.candidate.variant.name}"))
    parts.append(Text("p: McNemar's exact test of equal accuracy with the full network of the same model"))
    if result.refused:
        ordered = sorted(result.refused.items(), key=lambda each: -each[1])
        found = [f"{count} x {reason}" for reason, count in ordered[:_REASONS]]
        rest = len(ordered) - _REASONS
        parts.append(lines("Not possible", [*found, *([f"and {rest} more reasons"] if rest > 0 else [])]))
    if result.points:
        parts.append(disclaimer(result.points[0].estimate.disclaimer))
    return Group(*parts)


def _table(result: Optimised) -> RenderableType:
    table = new_table(
        "", "network", "accuracy", "95 % interval", "p", "energy", "low", "high", "latency", "images/s",
        "cores", "deployment", "predicted\nenergy", "predicted\nlatency",
    )  # fmt: skip
    for point in result.points:
        price = point.price
        add_row(
            table,
            ", ".join(point.roles),
            point.candidate.variant.name,
            f"{point.accuracy:.2%}",
            f"{point.accuracy_low:.1%}..{point.accuracy_high:.1%}",
            NONE if point.p_value is None else f"{point.p_value:.2g}",
            si(price.energy_j.value, "J"),
            si(price.energy_j.low, "J"),
            si(price.energy_j.high, "J"),
            si(price.latency_s.value, "s"),
            si(price.throughput_images_per_s.value, ""),
            str(point.candidate.cores),
            deployment_words(point),
            f"{point.errors['energy_j']:+.1%}",
            f"{point.errors['latency_s']:+.1%}",
        )
    return table


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
        words.append("early end")
    return ", ".join(words)


def frontier_chart(result: Optimised) -> Figure:
    """Draw accuracy over energy of an image, with intervals; filled marks are on the frontier.

    Raises InputError without matplotlib.
    """
    with needs("plot"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    families = list(dict.fromkeys(_family(point) for point in result.points))
    for number, family in enumerate(families):
        for filled in (True, False):
            own = [
                each
                for each in result.points
                if _family(each) == family and ("frontier" in each.roles) == filled
            ]
            if not own:
                continue
            energy = [each.price.energy_j.value * 1e6 for each in own]
            accuracy = [each.accuracy * 100 for each in own]
            colour = _COLOURS[number % len(_COLOURS)]
            low = [each.price.energy_j.low * 1e6 for each in own]
            high = [each.price.energy_j.high * 1e6 for each in own]
            axes.hlines(accuracy, low, high, color=colour, linewidth=0.8, alpha=0.35)
            down = [(each.accuracy - each.accuracy_low) * 100 for each in own]
            up = [(each.accuracy_high - each.accuracy) * 100 for each in own]
            axes.errorbar(
                energy,
                accuracy,
                yerr=[down, up],
                fmt=_MARKS[number % len(_MARKS)],
                color=colour,
                markerfacecolor=colour if filled else "white",
                ecolor=(*_rgb(colour), 0.35),
                label=family if filled else f"{family} (not on the frontier)",
            )
    axes.set_xscale("log")
    axes.set_xlabel("energy of an image, estimated (uJ)")
    axes.set_ylabel(f"accuracy on {result.images[1]} images (%)")
    axes.set_title(f"Deployments on {result.profile}, mode {result.mode}: estimated, not measured")
    axes.grid(visible=True, which="both", linewidth=0.3)
    axes.legend(title="lines: 95 % of accuracy, interval of energy", fontsize="small", title_fontsize="small")
    return figure


def frontier_png(result: Optimised) -> bytes:
    """Return the chart as a PNG file."""
    content = io.BytesIO()
    frontier_chart(result).savefig(content, format="png", dpi=130, metadata={"Software": SOFTWARE})
    return content.getvalue()


def _family(point: Point) -> str:
    variant = point.candidate.variant
    return f"{variant.model}: {variant.family}" if variant.model else variant.family


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue
