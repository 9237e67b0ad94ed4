"""Where the layers of a network are on the mesh of a chip."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stas_neuro.display import si
from stas_neuro.energy import CoreCost, Estimate
from stas_neuro.errors import InputError
from stas_neuro.mapping import CoreLocation
from stas_neuro.report.charts.axes import si_label
from stas_neuro.report.charts.style import SHADES, categories, colours_of, finished, library, rows

if TYPE_CHECKING:
    from altair.typing import ChartType

CHIPS = 4
"""Largest number of chips that are drawn."""
_SIDE = 300
_SEVERAL = "several parts"


def placement_chart(
    cost: Estimate,
    cores: Sequence[CoreLocation],
    *,
    tiles: tuple[int, int] | None = None,
    run: str = "the run",
) -> ChartType:
    """Draw the cores of a run on the meshes of their chips: which part of the network, and what energy.

    Parameters
    ----------
    cost : Estimate
        The price of the run, on these cores.
    cores : sequence of CoreLocation
        `Activity.cores` of the run; the first `CHIPS` chips are drawn.
    tiles : tuple of two ints, optional
        Columns and rows of a chip's mesh. Default: as far as there are cores.
    run : str
        Name of the run.

    Raises
    ------
    InputError
        When the run was not placed on cores, or its price has none.
    """
    known = {core.core: core for core in cost.cores_breakdown if core.core is not None}
    if not cores or len(known) != len(cores):
        what = (
            f"{run} has no placement on cores"
            if not cores
            else f"{cost.profile} has no price for the cores of {run}"
        )
        raise InputError(what, "run a bundle that was compiled with --placement, and price it on its chip")
    alt = library()
    scope_of = {layer.name: layer.scope or "other" for layer in cost.layers}
    chips = sorted({site.chip for site in cores})
    shown = chips[:CHIPS]
    values = [cell for cell in _cells(cores, known, scope_of) if cell["chip"] in shown]
    width = max(site.x for site in cores) + 1 if tiles is None else tiles[0]
    height = max(site.y for site in cores) + 1 if tiles is None else tiles[1]
    parts = categories(
        scope for scope in [*scope_of.values(), _SEVERAL] if any(cell["part"] == scope for cell in values)
    )
    axis = {"tickMinStep": 1, "grid": True, "format": "d"}
    empty = [{"x": x, "y": y, "x2": x + 1, "y2": y + 1} for x in range(width) for y in range(height)]
    drawn = []
    for chip in shown:
        own = [cell for cell in values if cell["chip"] == chip]
        used = f"chip {chip}: {len(own)} cores"
        mesh = (
            alt.Chart(rows(empty))
            .mark_rect(filled=False, stroke="#9aa1a9", strokeWidth=0.7)
            .encode(
                x=alt.X(
                    "x:Q",
                    title=f"tile from west to east, {used}",
                    axis=alt.Axis(**axis),
                    scale=alt.Scale(domain=[0, width], nice=False),
                ),
                x2="x2:Q",
                y=alt.Y(
                    "y:Q",
                    title="tile from north to south",
                    axis=alt.Axis(**axis),
                    scale=alt.Scale(domain=[0, height], nice=False, reverse=True),
                ),
                y2="y2:Q",
            )
        )
        base = (
            alt.Chart(rows(own))
            .mark_rect(stroke="white", strokeWidth=0.6)
            .encode(
                x="x:Q",
                x2="x2:Q",
                y="y:Q",
                y2="y2:Q",
                tooltip=["core:Q", "chip:Q", "tile:N", "part:N", "layers:N", "text:N"],
            )
        )
        by_part = base.encode(
            color=alt.Color("part:N", sort=parts, scale=colours_of(parts), title="part of the network")
        )
        by_energy = base.encode(
            color=alt.Color(
                "energy:Q",
                title=["dynamic energy", "of an image, J"],
                scale=alt.Scale(scheme=SHADES, domainMin=0),
                legend=alt.Legend(labelExpr=si_label("J", digits=2), gradientLength=160),
            )
        )
        side = {"width": _SIDE, "height": max(60, min(_SIDE * 2, round(_SIDE * height / width)))}
        drawn.append(
            alt.hconcat(
                *(alt.layer(mesh, each).properties(**side) for each in (by_part, by_energy))
            ).resolve_scale(color="independent")
        )
    left_out = f"; {len(chips) - len(shown)} more chips are not drawn" if len(chips) > len(shown) else ""
    return finished(
        alt.vconcat(*drawn),
        "Placement on the mesh",
        f"{run} on {cost.profile_title} ({cost.profile}): {len(cores)} cores on {len(chips)} "
        f"{'chip' if len(chips) == 1 else 'chips'}; outlined tiles are free{left_out}",
        f"All energies are {cost.disclaimer}.",
    )


def _cells(
    cores: Sequence[CoreLocation], known: Mapping[int, CoreCost], scope_of: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return a row for each core: a square of its tile, which it shares with the other cores there."""
    on_tile: dict[CoreLocation, list[int]] = defaultdict(list)
    for core, site in enumerate(cores):
        on_tile[site].append(core)
    side = math.ceil(math.sqrt(max(map(len, on_tile.values()))))
    cells = []
    for site, members in on_tile.items():
        for place, core in enumerate(members):
            cost = known[core]
            scopes = categories(scope_of[layer] for layer in cost.layers)
            left, top = site.x + (place % side) / side, site.y + (place // side) / side
            cells.append(
                {
                    "core": core,
                    "chip": site.chip,
                    "tile": f"{site.x},{site.y}",
                    "part": scopes[0] if len(scopes) == 1 else _SEVERAL,
                    "layers": ", ".join(cost.layers),
                    "energy": cost.dynamic_energy_j.value,
                    "text": si(cost.dynamic_energy_j.value, "J"),
                    "x": left,
                    "x2": left + 1 / side,
                    "y": top,
                    "y2": top + 1 / side,
                }
            )
    return cells
