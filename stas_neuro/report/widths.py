"""Table of the prices of a network at other widths."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from stas_neuro.activity import Activity
from stas_neuro.display import NONE, si
from stas_neuro.energy import Estimate, disclaimer_of, width_of
from stas_neuro.report.tables import add_row, disclaimer, new_table


def widths_report(runs: Sequence[tuple[Activity, Estimate]]) -> RenderableType:
    """Tabulate records of several widths with their estimates, in the order given."""
    table = new_table(
        "width", "neurons", "weights", "synaptic ops", "spikes", "cores", "chips", "energy", "low", "high",
        "dynamic", "latency",
    )  # fmt: skip
    for activity, cost in runs:
        energy, dynamic, latency = cost.energy_j, cost.dynamic_energy_j, cost.latency_s
        ends = () if energy is None else (energy.value, energy.low, energy.high)
        add_row(
            table,
            str(width_of(activity)),
            str(sum(layer.neurons for layer in activity.layers if not layer.placed_with)),
            str(sum(layer.weights for layer in activity.layers)),
            *(si(activity.total(kind) / activity.all_images, "") for kind in ("synops", "spikes_out")),
            NONE if cost.cores is None else str(cost.cores),
            NONE if cost.chips is None else str(cost.chips),
            *((si(each, "J") for each in ends) if ends else [NONE] * 3),
            NONE if dynamic is None else si(dynamic.value, "J"),
            NONE if latency is None else si(latency.value, "s"),
        )
    first = runs[0][1]
    head = (
        f"{first.profile_title}, mode {first.mode}, per image: scaled from a run at the same rates of spikes"
    )
    return Group(
        Text(head, style="bold"), Text(), table, Text(), disclaimer(disclaimer_of(c.figures for _, c in runs))
    )
