"""Sections on what was searched and assumed, and where every constant comes from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from stas_neuro.chips import Profile
from stas_neuro.chips.entries import ENTRIES
from stas_neuro.energy import Estimate
from stas_neuro.page.content import Cell, Section, number, quantity, share, table, text
from stas_neuro.report.charts import frontier_chart
from stas_neuro.report.frontier_file import Frontier


def frontier_section(frontiers: Sequence[Frontier]) -> Section:
    """Show the deployments that searches found."""
    section = Section("frontier", "Deployments that no other beats")
    columns = (
        "network", "how it halts", "roles", "accuracy", "low", "high", "energy", "low", "high", "latency",
        "images/s", "cores",
    )  # fmt: skip
    for place, found in enumerate(frontiers):
        section.draw(f"frontier-chart-{place}", partial(frontier_chart, found))
        rows = (
            [
                text(point.network),
                text(point.family_words),
                text(", ".join(point.roles)),
                *(share(value) for value in (point.accuracy, *point.accuracy_interval)),
                *quantity(point.price.energy_j, "J"),
                quantity(point.price.latency_s, "s")[0],
                quantity(point.price.throughput_images_per_s, "")[0],
                number(point.cores),
            ]
            for point in found.points
        )
        caption = f"Deployments on {found.profile}, mode {found.mode}"
        section.tables.append(table(f"frontier-table-{place}", caption, columns, rows))
        if found.events_only is not None:
            section.text.append(
                f"{found.profile}: energies are of events only, as static power is {found.events_only}."
            )
    return section


def constants_section(estimates: Sequence[Estimate], profiles: Sequence[Profile]) -> Section:
    """List every constant that a price on this page depends on, with its basis and source."""
    section = Section("constants", "Every constant, with its source")
    section.text.append(
        "The entries of the profiles that prices on this page depend on. Basis: measured on silicon, "
        "simulated, fitted to measurements, from the vendor, or assumed."
    )
    columns = (
        "chip",
        "entry",
        "meaning",
        "value",
        "low",
        "high",
        "unit",
        "basis",
        "source",
        "interval",
        "note",
    )
    used = _used(estimates)
    rows = [
        _constant(profile, name)
        for profile in profiles
        for name in used.get(profile.name, ())
        if name in ENTRIES
    ]
    section.tables.append(table("constants-table", "Constants", columns, rows, most=2000))
    return section


def assumptions_section(run: str, cost: Estimate) -> Section:
    """List the assumptions of the price of the first run."""
    section = Section("assumptions", "Assumptions")
    section.lists.append((f"{run} on {cost.profile_title}", list(cost.assumptions)))
    return section


def _used(estimates: Iterable[Estimate]) -> dict[str, list[str]]:
    """Return the entries that prices depend on, by profile, in the order of the schema."""
    found: dict[str, set[str]] = {}
    for cost in estimates:
        found.setdefault(cost.profile, set()).update(
            name for names in cost.figures.values() for name in names
        )
    return {profile: [name for name in ENTRIES if name in names] for profile, names in found.items()}


def _constant(profile: Profile, name: str) -> list[Cell]:
    entry = profile.entry(name)
    source = profile.sources[entry.source].citation
    return [
        text(profile.name),
        text(name),
        text(ENTRIES[name]),
        number(entry.value),
        number(entry.low),
        number(entry.high),
        text(entry.unit),
        text(f"{entry.basis}, second-hand" if entry.second_hand else entry.basis),
        text(source),
        text(entry.interval or None),
        text(entry.note or None),
    ]
