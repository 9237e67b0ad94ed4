"""Sections on where the energy of the first run goes, on one chip."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from stas_neuro.chips import Profile
from stas_neuro.energy import Deployment, Estimate, core_work
from stas_neuro.page.content import Section, number, quantity, share, table, text
from stas_neuro.page.runs import Run
from stas_neuro.report.charts import (
    core_work_chart,
    cores_chart,
    layers_chart,
    placement_chart,
    steps_chart,
)

if TYPE_CHECKING:
    from altair.typing import ChartType


def breakdown_section(run: str, cost: Estimate) -> Section:
    """Divide the energy by event, layer, step and core."""
    section = Section("breakdown", "Where the energy goes")
    section.text.append(
        f"{run} on {cost.profile_title}. Dynamic energy is that of events; static power is not divided."
    )
    section.draw("layers-chart", lambda: layers_chart(cost, run=run))
    section.draw("steps-chart", lambda: steps_chart(cost, run=run))
    section.draw("cores-chart", lambda: cores_chart(cost, run=run))
    whole = cost.dynamic_energy_j

    def part(value: float) -> float | None:
        return value / whole.value if whole is not None and whole.value else None

    energy = ("energy", "low", "high", "part")
    events = (
        [text(each.event), number(each.count, "{:,.0f}"), *quantity(each.energy_j, "J"),
         share(part(each.energy_j.value)), text("halting" if each.halting else "network"), text(each.entry)]
        for each in cost.events
    )  # fmt: skip
    layers = (
        [text(each.name), text(each.kind), text(each.scope or "other"), number(each.cores),
         *quantity(each.dynamic_energy_j, "J"), share(part(each.dynamic_energy_j.value))]
        for each in cost.layers
    )  # fmt: skip
    steps = (
        [text(each.step), number(each.hardware_steps), *quantity(each.dynamic_energy_j, "J"),
         share(part(each.dynamic_energy_j.value)), *quantity(each.latency_s, "s")]
        for each in cost.steps
    )  # fmt: skip
    cores = (
        [text("processor") if each.core is None else number(each.core), number(each.chip),
         number(each.core_steps, "{:.1f}"), share(each.busy_time_share),
         *quantity(each.dynamic_energy_j, "J"), share(part(each.dynamic_energy_j.value)),
         text(", ".join(each.layers))]
        for each in cost.cores_breakdown
    )  # fmt: skip
    section.tables += [
        table("events-table", "Energy by event", ("event", "count", *energy, "of", "priced by"), events),
        table("layers-table", "Energy by layer",
              ("layer", "node", "part of the network", "cores", *energy), layers),
        table("steps-table", "Energy and latency by step",
              ("step", "hardware steps", *energy, "latency", "low", "high"), steps),
        table("cores-table", "Energy by core", ("core", "chip", "steps", "busy", *energy, "layers"), cores),
    ]  # fmt: skip
    if cost.unavailable:
        lines = [f"{field}: {why}" for field, why in cost.unavailable.items()]
        section.lists.append(("Not priced", lines))
    return section


def cores_section(runs: Sequence[tuple[Run, Estimate, Deployment]], profile: Profile) -> Section:
    """Show when which core works, and where layers are on the mesh, for runs with their prices."""
    section = Section("cores", "Cores over time, and on the chip")
    for place, (run, cost, deployment) in enumerate(runs):
        section.draw(f"work-chart-{place}", partial(_work_chart, run, profile, deployment))
        mesh = partial(placement_chart, cost, run.activity.cores, tiles=_tiles(profile), run=run.label)
        section.draw(f"placement-chart-{place}", mesh)
    return section


def _work_chart(run: Run, profile: Profile, deployment: Deployment) -> ChartType:
    return core_work_chart(core_work(run.activity, profile, deployment), run=run.label)


def _tiles(profile: Profile) -> tuple[int, int] | None:
    names = "tiles_x", "tiles_y"
    if any(f"limits.{name}" not in profile.entries() for name in names):
        return None
    columns, rows = (profile.limit(name) for name in names)
    return columns, rows
