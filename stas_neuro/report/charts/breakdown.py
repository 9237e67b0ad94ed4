"""Where the energy of an image goes: by layer, by step and by core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stas_neuro.display import si
from stas_neuro.energy import CoreCost, Estimate
from stas_neuro.errors import InputError
from stas_neuro.report.charts.axes import linear_axis
from stas_neuro.report.charts.style import (
    COLOURS,
    INK,
    INTERVAL,
    WIDTH,
    categories,
    colours_of,
    finished,
    library,
    rows,
)

if TYPE_CHECKING:
    from altair.typing import ChartType

LAYERS, CORES = 80, 240
"""Largest number of layers and of cores that are drawn one by one."""
_ROW = 15


def layers_chart(cost: Estimate, *, run: str = "the run") -> ChartType:
    """Draw the dynamic energy of each layer, in the order of the network, with its interval.

    Of more than `LAYERS` layers the others are one bar. Raises InputError where no event has a price.
    """
    alt = library()
    costly = sorted(cost.layers, key=lambda layer: -layer.dynamic_energy_j.value)[:LAYERS]
    shown = [layer for layer in cost.layers if layer in costly]
    values = [
        _bar(layer.dynamic_energy_j.value, layer.dynamic_energy_j.low, layer.dynamic_energy_j.high)
        | {"layer": layer.name, "part": layer.scope or "other", "kind": layer.kind}
        for layer in shown
    ]
    if rest := [layer.dynamic_energy_j for layer in cost.layers if layer not in costly]:
        sums = (sum(getattr(each, end) for each in rest) for end in ("value", "low", "high"))
        values.append(_bar(*sums) | {"layer": f"{len(rest)} other layers", "part": "other", "kind": ""})
    _require(values, cost)
    parts = categories(str(value["part"]) for value in values)
    base = alt.Chart(rows(values)).encode(y=alt.Y("layer:N", sort=None, title=None))
    bars = base.mark_bar().encode(
        x=alt.X(
            "value:Q", axis=linear_axis("dynamic energy of an image, J", "J"), scale=alt.Scale(zero=True)
        ),
        color=alt.Color("part:N", sort=parts, scale=colours_of(parts), title="part of the network"),
        tooltip=["layer:N", "kind:N", "part:N", "text:N"],
    )
    chart = alt.layer(bars, _intervals(base, "x")).properties(width=WIDTH, height=alt.Step(_ROW))
    return finished(chart, "Energy by layer", *_about(cost, run))


def steps_chart(cost: Estimate, *, run: str = "the run") -> ChartType:
    """Draw the dynamic energy and the latency of each step of the network, with intervals.

    Latency is left out where it is unknown. Raises InputError where no event has a price.
    """
    alt = library()
    energies = [
        {"step": step.step}
        | _bar(step.dynamic_energy_j.value, step.dynamic_energy_j.low, step.dynamic_energy_j.high)
        for step in cost.steps
    ]
    _require(energies, cost)
    panels = [(energies, "dynamic energy of an image, J", "J", COLOURS[0])]
    times = [
        {"step": step.step} | _bar(step.latency_s.value, step.latency_s.low, step.latency_s.high, "s")
        for step in cost.steps
        if step.latency_s is not None
    ]
    if times:
        panels.append((times, "latency, s", "s", COLOURS[1]))
    drawn = []
    for values, name, unit, colour in panels:
        base = alt.Chart(rows(values)).encode(x=alt.X("step:N", sort=None, title="step of the network"))
        bars = base.mark_bar(color=colour).encode(
            y=alt.Y("value:Q", axis=linear_axis(name, unit), scale=alt.Scale(zero=True)),
            tooltip=["step:N", "text:N"],
        )
        drawn.append(alt.layer(bars, _intervals(base, "y")).properties(width=WIDTH // 2 - 40, height=220))
    return finished(alt.hconcat(*drawn), "Energy and latency by step", *_about(cost, run))


def cores_chart(cost: Estimate, *, run: str = "the run") -> ChartType:
    """Draw the dynamic energy of each core, with its interval, and the processor beside the cores.

    More than `CORES` cores are drawn in groups of neighbours, with the mean of each group. Raises InputError
    where the cores are unknown.
    """
    alt = library()
    cores = [core for core in cost.cores_breakdown if core.core is not None]
    if not cores:
        why = cost.unavailable.get("cores_breakdown", "the profile has no cores, or events have no price")
        raise InputError(f"the cores of {run} on {cost.profile} are unknown: {why}", "give another profile")
    size = -(-len(cores) // CORES)
    groups = [cores[start : start + size] for start in range(0, len(cores), size)]
    values = [_group(group) for group in groups]
    chips = categories(str(value["chip"]) for value in values)
    base = alt.Chart(rows(values)).encode(
        x=alt.X(
            "core:Q",
            title="core" if size == 1 else f"core (mean of {size} neighbours)",
            scale=alt.Scale(domain=[-0.5 * size, len(cores) - 0.5 * size], nice=False),
            axis=alt.Axis(tickMinStep=1, grid=False),
        ),
    )
    bars = base.mark_bar(size=max(1.5, 0.8 * WIDTH / len(values)) if len(values) > 20 else 18).encode(
        y=alt.Y(
            "value:Q", axis=linear_axis("dynamic energy of an image, J", "J"), scale=alt.Scale(zero=True)
        ),
        color=alt.Color("chip:N", sort=chips, scale=colours_of(chips), title="chip"),
        tooltip=["core:Q", "chip:N", "layers:N", "text:N"],
    )
    beside = [core for core in cost.cores_breakdown if core.core is None]
    apart = [
        f"beside the cores: {si(core.dynamic_energy_j.value, 'J')} in {', '.join(core.layers)}"
        for core in beside
    ]
    chart = alt.layer(bars, _intervals(base, "y")).properties(width=WIDTH, height=200)
    return finished(chart, "Energy by core", *_about(cost, run), *apart)


def _bar(value: float, low: float, high: float, unit: str = "J") -> dict[str, Any]:
    text = f"{si(value, unit)} ({si(low, unit)} to {si(high, unit)})"
    return {"value": value, "low": low, "high": high, "line": INTERVAL, "text": text}


def _group(cores: Sequence[CoreCost]) -> dict[str, Any]:
    ends = (
        sum(getattr(core.dynamic_energy_j, end) for core in cores) / len(cores)
        for end in ("value", "low", "high")
    )
    layers = categories(layer for core in cores for layer in core.layers)
    first = cores[0]
    return _bar(*ends) | {"core": first.core, "chip": f"chip {first.chip}", "layers": ", ".join(layers)}


def _intervals(base: Any, axis: str) -> Any:
    """Return the layer of the intervals of bars, with their legend."""
    alt = library()
    ends = {axis: getattr(alt, axis.upper())("low:Q"), f"{axis}2": "high:Q"}
    scale = alt.Scale(type="ordinal", domain=[INTERVAL], range=[0.75])
    opacity = alt.Opacity("line:O", title="lines", scale=scale)
    return base.mark_rule(strokeWidth=1.2, color=INK).encode(opacity=opacity, **ends)


def _about(cost: Estimate, run: str) -> tuple[str, str]:
    where = f"{run} on {cost.profile_title} ({cost.profile}), {cost.schedule}, mean of {cost.images} images"
    return where, f"All figures are {cost.disclaimer}."


def _require(values: Sequence[object], cost: Estimate) -> None:
    if not values:
        why = cost.unavailable.get("dynamic_energy_j", "no event has a price")
        raise InputError(f"the energy of events on {cost.profile} is unknown: {why}", "give another profile")
