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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stas_neuro.optimiser import Optimised, Point

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can distinguish."""
_MARKS = "osD^vP*X"
"""Marks of families, so that they differ without colours too."""
_FAMILIES = {"full": "no halting", "static": "fewer steps", "image": "image exit"}
_REASONS = 8
_MODE_WORDS = {"single": "one image at a time", "stream": "images in a stream"}


def frontier_report(result: Optimised) -> RenderableType:
    """Tabulate the points, what was searched, and how well it was predicted."""
    chosen, reported = result.images
    best = result.best
    head = (
        f"{result.deployments} deployments of {result.networks} networks on {result.profile}, mode "
        f"{result.mode}, in {result.seconds:.0f} s; chosen on {chosen} images, reported on {reported} others"
    )
    parts: list[RenderableType] = [Text(head, style="bold"), Text(), _table(result), Text()]
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
        "", "network", "accuracy", "95 % interval", "p", "energy", "low", "high", "other structures",
        "latency", "images/s", "cores", "deployment", "predicted\nenergy", "predicted\nlatency",
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
            _structures(point),
            si(price.latency_s.value, "s"),
            si(price.throughput_images_per_s.value, ""),
            str(point.candidate.cores),
            deployment_words(point),
            f"{point.errors['energy_j']:+.1%}",
            f"{point.errors['latency_s']:+.1%}",
        )
    return table


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
        words.append("early end")
    return ", ".join(words)


def frontier_chart(result: Optimised) -> Figure:
    """Draw accuracy over energy of an image, with intervals; filled marks are on the frontier.

    Raises InputError without matplotlib.
    """
    with needs("plot"):
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.add_subplot()
    families = list(dict.fromkeys(family_words(point) for point in result.points))
    for number, family in enumerate(families):
        style = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
        for filled in (True, False):
            own = [
                each
                for each in result.points
                if family_words(each) == family and ("frontier" in each.roles) == filled
            ]
            if own:
                _draw(axes, own, style, family if filled else f"{family}, not on the frontier", filled=filled)
    if (best := result.best) is not None:
        axes.plot(
            [best.price.energy_j.value * 1e6],
            [best.accuracy * 100],
            linestyle="none",
            marker="o",
            markersize=15,
            markerfacecolor="none",
            color="black",
            label=f"best {result.objective} of those accurate enough",
        )
    parts = "" if result.events_only is None else " of events only"
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"energy{parts} of an image (uJ), estimated")
    axes.set_ylabel(f"accuracy on {result.images[1]} images (%)")
    axes.set_title(
        f"Deployments on {result.profile}, {_MODE_WORDS[result.mode]}: estimated, not measured\n"
        f"the best of {result.deployments} deployments of {result.networks} networks, compiled and run"
    )
    axes.grid(visible=True, linewidth=0.3)
    title = "thin lines: 95 % interval of accuracy,\ninterval of published figures of energy"
    figure.legend(
        title=title, fontsize="small", title_fontsize="small", loc="outside right upper", alignment="left"
    )
    return figure


def _draw(axes: Axes, points: list[Point], style: tuple[str, str], label: str, *, filled: bool) -> None:
    """Draw the points of a family, with colour and mark of `style`."""
    colour, mark = style
    accuracy = [each.accuracy * 100 for each in points]
    energies = [each.price.energy_j for each in points]
    axes.hlines(
        accuracy,
        [each.low * 1e6 for each in energies],
        [each.high * 1e6 for each in energies],
        color=colour,
        linewidth=0.8,
        alpha=0.3,
    )
    down = [(each.accuracy - each.accuracy_low) * 100 for each in points]
    up = [(each.accuracy_high - each.accuracy) * 100 for each in points]
    axes.errorbar(
        [each.value * 1e6 for each in energies],
        accuracy,
        yerr=[down, up],
        fmt=mark,
        color=colour,
        markerfacecolor=colour if filled else "white",
        ecolor=(*_rgb(colour), 0.3),
        elinewidth=0.8,
        label=label,
    )


def frontier_png(result: Optimised) -> bytes:
    """Return the chart as a PNG file."""
    content = io.BytesIO()
    frontier_chart(result).savefig(content, format="png", dpi=130, metadata={"Software": SOFTWARE})
    return content.getvalue()


def family_words(point: Point) -> str:
    """Name the model of a point, if it is a rival, and how it halts."""
    variant = point.candidate.variant
    policy, late = variant.family.removesuffix(" late"), variant.family.endswith(" late")
    how = _FAMILIES.get(policy, f"{policy} halting") + (", late decisions" if late else "")
    return f"{variant.model}: {how}" if variant.model else how


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue
