"""What runs cost on chips, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stas_neuro.display import si
from stas_neuro.energy import Estimate, Interval, disclaimer_of
from stas_neuro.errors import InputError
from stas_neuro.report.charts.axes import above_zero, log_axis
from stas_neuro.report.charts.style import (
    INK,
    INTERVAL,
    STRUCTURES,
    WIDTH,
    colours_of,
    finished,
    library,
    rows,
    shapes_of,
)
from stas_neuro.report.refused import Refused

if TYPE_CHECKING:
    from altair.typing import ChartType

Quantity = Literal["energy", "latency"]
_UNITS: Mapping[Quantity, str] = {"energy": "J", "latency": "s"}
_WHOLE, _EVENTS, _WHAT_IF = (
    "the whole",
    "events only: static power is unknown",
    "what-if: the chip cannot run it",
)
_OPACITIES: Mapping[str, float] = {_WHOLE: 1.0, _EVENTS: 0.55, _WHAT_IF: 0.25}
_LANE = 15
"""Height in pixels of a run in the row of a chip."""
_REASON = 110
"""Longest reason of a refusal that fits a chart, in characters."""


@dataclass(frozen=True)
class _Cost:
    """A mark: the cost of a run on a chip, with the range over structures, if that is known."""

    chip: str
    run: str
    value: Interval
    structures: Interval | None
    status: str

    def ends(self) -> list[tuple[str, Interval]]:
        """Return the lines of the mark."""
        own = [(INTERVAL, self.value)]
        return own if self.structures is None else [*own, (STRUCTURES, self.structures)]


def costs_chart(
    runs: Mapping[str, Sequence[Estimate | Refused]], quantity: Quantity = "energy", *, title: str = ""
) -> ChartType:
    """Draw the cost of an image of each run on each chip, with both its intervals.

    Chips that refuse a run keep their row, with the reason.

    Parameters
    ----------
    runs : mapping of label to sequence of Estimate or Refused
        What each run costs on each chip, or why it has no price there.
    quantity : "energy" or "latency"
        Energy in J per image, of events only where the total is unknown; or latency in s.
    title : str
        Default: the quantity.

    Raises
    ------
    InputError
        When no run has a price, or Altair is not installed.
    """
    alt = library()
    unit, labels = _UNITS[quantity], list(runs)
    found = [_cost(label, each, quantity) for label, costs in runs.items() for each in costs]
    priced = [each for each in found if isinstance(each, _Cost)]
    if not priced:
        raise InputError(f"no chip has a price for the {quantity}", "give other profiles")
    ends = [(each, line, span) for each in priced for line, span in each.ends()]
    scale, axis = log_axis(
        (end for *_, span in ends for end in (span.low, span.value, span.high)),
        f"{quantity} of an image, {unit} (logarithmic)",
        unit,
    )
    chips = list(dict.fromkeys(cost.profile for costs in runs.values() for cost in costs))
    common = {
        "y": alt.Y("chip:N", sort=chips, title=None, axis=alt.Axis(grid=True, tickBand="extent")),
        "yOffset": alt.YOffset("run:N", sort=labels, scale=alt.Scale(domain=labels, paddingOuter=0.2)),
        "color": alt.Color(
            "run:N", scale=colours_of(labels), title="run", sort=labels, legend=alt.Legend(symbolOpacity=1)
        ),
    }
    lines = [
        {
            "chip": each.chip,
            "run": each.run,
            "line": line,
            "from": above_zero(span.low, scale),
            "to": above_zero(span.high, scale),
            "text": f"{si(span.low, unit)} to {si(span.high, unit)}",
        }
        for each, line, span in ends
    ]
    known = [each for each in (INTERVAL, STRUCTURES) if any(line["line"] == each for line in lines)]
    spans = (
        alt.Chart(rows(lines))
        .mark_rule(strokeCap="butt")
        .encode(
            x=alt.X("from:Q", scale=scale, axis=axis),
            x2="to:Q",
            strokeWidth=alt.StrokeWidth(
                "line:O",
                title="lines",
                sort=known,
                scale=alt.Scale(type="ordinal", domain=known, range=[1.2, 5][: len(known)]),
            ),
            tooltip=["chip:N", "run:N", "line:N", "text:N"],
            **common,
        )
    )
    statuses = [each for each in _OPACITIES if any(point.status == each for point in priced)]
    marks = (
        alt.Chart(rows(_mark(each, unit, scale) for each in priced))
        .mark_point(size=75, filled=True)
        .encode(
            x=alt.X("value:Q", scale=scale),
            shape=alt.Shape("run:N", scale=shapes_of(labels), title="run", sort=labels),
            opacity=alt.Opacity(
                "status:O",
                title="marks",
                sort=statuses,
                scale=alt.Scale(
                    type="ordinal", domain=statuses, range=[_OPACITIES[each] for each in statuses]
                ),
                legend=alt.Legend(symbolType="circle", symbolFillColor=INK, symbolStrokeWidth=0),
            ),
            tooltip=["chip:N", "run:N", "status:N", "text:N"],
            **common,
        )
    )
    refusals = _together([each for each in found if not isinstance(each, _Cost)], len(labels))
    lane = {channel: common[channel] for channel in ("y", "yOffset")}
    reasons = (
        alt.Chart(rows(refusals))
        .mark_text(align="left", fontSize=10, fontStyle="italic", color=INK, limit=WIDTH - 8, dx=4)
        .encode(x=alt.value(0), text="text:N", tooltip=["chip:N", "run:N", "why:N"], **lane)
    )
    costs = [cost for each in runs.values() for cost in each if isinstance(cost, Estimate)]
    chart = alt.layer(spans, marks, *([reasons] if refusals else [])).properties(
        width=WIDTH, height=alt.Step(max(26, _LANE * len(labels) + 8), **{"for": "position"})
    )
    return finished(
        chart,
        title or f"{quantity.capitalize()} on chips",
        f"{', '.join(labels)}; mean of {costs[0].images} images",
        f"All figures are {disclaimer_of(cost.figures for cost in costs)}.",
    )


def _cost(run: str, cost: Estimate | Refused, quantity: Quantity) -> _Cost | dict[str, Any]:
    """Return the mark of a run on a chip, or the row of text that says why it has none."""
    if isinstance(cost, Refused):
        return _reason(run, cost.profile, "not priced", cost.reason)
    whole, events = (
        (cost.latency_s, None) if quantity == "latency" else (cost.energy_j, cost.dynamic_energy_j)
    )
    value = whole or events
    if value is None:
        field = "latency_s" if quantity == "latency" else "energy_j"
        return _reason(run, cost.profile, "unknown", cost.unavailable[field])
    structures, known = None, cost.structural_range
    if known is not None:
        energy = known.energy_j if whole else known.dynamic_energy_j
        structures = known.latency_s if quantity == "latency" else energy
    status = _WHAT_IF if cost.what_if else _WHOLE if whole else _EVENTS
    return _Cost(cost.profile, run, value, structures, status)


def _reason(run: str, chip: str, what: str, why: str) -> dict[str, Any]:
    text = f"{run}: {what}: {why}"
    short = text if len(text) <= _REASON else f"{text[: _REASON - 1].rstrip()}…"
    return {"chip": chip, "run": run, "text": short, "why": why}


def _together(refusals: list[dict[str, Any]], runs: int) -> list[dict[str, Any]]:
    """Return the rows of refusals, those of a chip that says the same of all runs as one."""
    kept = []
    for row in refusals:
        alike = [each for each in refusals if each["chip"] == row["chip"] and each["why"] == row["why"]]
        if len(alike) < runs or runs == 1:
            kept.append(row)
        elif row is alike[0]:
            text = str(row["text"]).removeprefix(f"{row['run']}: ")
            kept.append(row | {"text": f"all runs: {text}"})
    return kept


def _mark(cost: _Cost, unit: str, scale: Any) -> dict[str, Any]:
    text = si(cost.value.value, unit)
    return {
        "chip": cost.chip,
        "run": cost.run,
        "status": cost.status,
        "value": above_zero(cost.value.value, scale),
        "text": text,
    }
