"""The first lines of a page: what the first run costs on one chip, and what it saves."""

from __future__ import annotations

from dataclasses import dataclass

from stas_neuro.display import si
from stas_neuro.energy import Comparison, Estimate, Interval
from stas_neuro.page.runs import Run
from stas_neuro.report.tables import deployed
from stas_neuro.report.what_if import what_if_lines


@dataclass(frozen=True)
class Fact:
    """A number of the headline: its name, its text, its value, and lines below it."""

    name: str
    text: str
    value: float
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Headline:
    """What a reader sees first."""

    title: str
    about: str
    facts: tuple[Fact, ...]
    warnings: tuple[str, ...]
    disclaimer: str


def headline(run: Run, cost: Estimate, comparison: Comparison | None) -> Headline:
    """Summarise the price of a run on the chip of `cost`, with both its intervals."""
    known = cost.structural_range
    facts = []
    if cost.energy_j is not None:
        over = None if known is None else known.energy_j
        facts.append(_cost("Energy of an image", cost.energy_j, over, "J"))
    elif cost.dynamic_energy_j is not None:
        over = None if known is None else known.dynamic_energy_j
        facts.append(_cost("Energy of the events of an image (no total)", cost.dynamic_energy_j, over, "J"))
    if cost.latency_s is not None:
        facts.append(
            _cost("Latency of an image", cost.latency_s, None if known is None else known.latency_s, "s")
        )
    facts += _savings(cost, comparison)
    if run.accuracy is not None:
        facts.append(
            Fact("Accuracy", f"{run.accuracy:.1%}", run.accuracy, (f"on {run.activity.all_images} images",))
        )
    if run.token_ratio is not None:
        line = "of the visits without halting"
        facts.append(Fact("Visits made", f"{run.token_ratio:.1%}", run.token_ratio, (line,)))
    if cost.cores is not None:
        placed = "as placed" if run.activity.cores else "by packing"
        chips = "" if cost.chips is None else f", {cost.chips} {'chip' if cost.chips == 1 else 'chips'}"
        facts.append(Fact("Cores", str(cost.cores), cost.cores, (f"{placed}{chips}",)))
    return Headline(
        title=f"{run.label} on {cost.profile_title}",
        about=f"{deployed(cost)}; mean of {cost.images} images",
        facts=tuple(facts),
        warnings=tuple(what_if_lines([(run.label, cost)])),
        disclaimer=f"All figures are {cost.disclaimer}.",
    )


def _cost(name: str, value: Interval, over: Interval | None, unit: str) -> Fact:
    lines = [f"interval of the chip's figures: {si(value.low, unit)} to {si(value.high, unit)}"]
    if over is not None:
        lines.append(f"range over unknown structures: {si(over.low, unit)} to {si(over.high, unit)}")
    return Fact(name, si(value.value, unit), value.value, tuple(lines))


def _savings(cost: Estimate, comparison: Comparison | None) -> list[Fact]:
    rows = () if comparison is None else comparison.rows
    facts = []
    for row in rows:
        saving = row.energy_saving or row.dynamic_energy_saving
        if row.profile == cost.profile and saving is not None:
            what = "Energy" if row.energy_saving else "Energy of events"
            line = f"interval: {saving.low:+.1%} to {saving.high:+.1%}"
            facts.append(
                Fact(
                    f"{what} saved relative to {row.baseline}", f"{saving.value:+.1%}", saving.value, (line,)
                )
            )
    return facts
