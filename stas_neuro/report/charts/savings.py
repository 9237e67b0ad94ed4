"""What halting saves on each chip, and by which causes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stas_neuro.display import si
from stas_neuro.energy import Comparison, Saving, Split, disclaimer_of
from stas_neuro.errors import InputError
from stas_neuro.report.charts.style import COLOURS, INK, WIDTH, finished, library, rows

if TYPE_CHECKING:
    from altair.typing import ChartType

PARTS: tuple[tuple[str, str, int], ...] = (
    # -1 for a saving, 1 for a cost
    ("schedule_saved_j", "saved by the schedule", -1),
    ("operations_saved_j", "saved by fewer operations and messages", -1),
    ("gating_saved_j", "saved by neuron updates and static power", -1),
    ("halting_cost_j", "cost of halting", 1),
)
"""Fields of a `Split` from the run without halting to that with it, what they are, and their signs."""
_COLOURS = [COLOURS[at] for at in (3, 2, 5, 1)]
_WITHOUT, _WITH = "without halting: 100 %", "with halting"
_SHAPES = {_WITHOUT: "M-.04,-1L.04,-1L.04,1L-.04,1Z", _WITH: "M0,-.45L.36,0L0,.45L-.36,0Z"}
_INTERVAL = "interval of the saving (figures of the chip)"
_NOTHING = "the run without halting costs nothing"
_MARK = 530
_ROW, _FIGURES = 38, 300
_REASON = 120
"""Longest reason of a refusal that fits a chart, in characters."""


def savings_chart(results: Mapping[str, Comparison]) -> ChartType:
    """Draw a waterfall for each chip and baseline: from the energy without halting to that with it.

    Each part begins where the previous one ends, in a lane of its own; a cost, or a saving that is negative,
    goes to the right. 100 % is the energy of the baseline. Chips that were refused keep their row, with the
    reason.

    Parameters
    ----------
    results : mapping of label to Comparison
        What each run with halting saves, by the name of the run.

    Raises
    ------
    InputError
        When there is nothing to compare, or Altair is not installed.
    """
    alt = library()
    panels = [
        (run, baseline, [row for row in result.rows if row.baseline == baseline])
        for run, result in results.items()
        for baseline in dict.fromkeys(row.baseline for row in result.rows)
    ]
    if not any(_split(row) is not None for *_, found in panels for row in found):
        raise InputError("no chip could be priced both with and without halting", "give other profiles")
    ends = [end for *_, found in panels for row in found for end in _ends(row)]
    scale = alt.Scale(domain=[min(0.0, *ends), max(1.0, *ends) * 1.02], nice=False)
    drawn = [_panel(run, baseline, found, scale) for run, baseline, found in panels]
    estimates = [cost for result in results.values() for cost in result.estimates]
    return finished(
        alt.vconcat(*drawn, spacing=24),
        "What halting saves, and why",
        f"{', '.join(results)}: energy of an image relative to the run without halting, mean of "
        f"{estimates[0].images} images",
        "bars lead from the energy without halting to that with it: to the left savings, to the right costs",
        f"All figures are {disclaimer_of(cost.figures for cost in estimates)}.",
    )


def _panel(run: str, baseline: str, found: list[Saving], scale: Any) -> Any:
    """Draw the rows of one run and one baseline."""
    alt = library()
    chips = list(dict.fromkeys(map(_chip, found)))
    y = alt.Y("chip:N", sort=chips, title=None, scale=alt.Scale(domain=chips))
    parts = [words for _, words, _ in PARTS]
    bars = (
        alt.Chart(rows(bar for row in found for bar in _bars(row)))
        .mark_bar()
        .encode(
            x=alt.X(
                "from:Q",
                scale=scale,
                title="energy, % of that without halting",
                axis=alt.Axis(format="%", tickCount=8),
            ),
            x2="to:Q",
            y=y,
            yOffset=alt.YOffset("part:N", sort=parts, scale=alt.Scale(domain=parts, paddingOuter=0.25)),
            color=alt.Color(
                "part:N",
                sort=parts,
                title="causes",
                scale=alt.Scale(domain=parts, range=_COLOURS),
            ),
            tooltip=["chip:N", "part:N", "text:N"],
        )
    )
    marks = (
        alt.Chart(rows(mark for row in found for mark in _marks(row)))
        .mark_point(size=_MARK, filled=True, color=INK, opacity=1)
        .encode(
            x=alt.X("at:Q", scale=scale),
            y=y,
            shape=alt.Shape(
                "mark:N",
                sort=list(_SHAPES),
                title="marks",
                scale=alt.Scale(domain=list(_SHAPES), range=list(_SHAPES.values())),
                legend=alt.Legend(symbolSize=_MARK),
            ),
            tooltip=["chip:N", "mark:N", "text:N"],
        )
    )
    spans = (
        alt.Chart(rows(span for row in found for span in _spans(row)))
        .mark_rule(color=INK)
        .encode(
            x=alt.X("from:Q", scale=scale),
            x2="to:Q",
            y=y,
            strokeWidth=alt.StrokeWidth(
                "line:O",
                title="lines",
                scale=alt.Scale(type="ordinal", domain=[_INTERVAL], range=[1.4]),
                legend=alt.Legend(symbolSize=110),
            ),
        )
    )
    figures = (
        alt.Chart(
            rows({"chip": _chip(row), "text": _figures(row)} for row in found if _split(row) is not None)
        )
        .mark_text(align="left", dx=WIDTH * 0.72 + 12, fontSize=11, color=INK)
        .encode(x=alt.value(0), y=y, text="text:N")
    )
    refused = [{"chip": _chip(row), "text": _reason(row)} for row in found if _split(row) is None]
    reasons = (
        alt.Chart(rows(refused))
        .mark_text(
            align="left", dx=6, fontSize=10, fontStyle="italic", color=INK, limit=WIDTH * 0.72 + _FIGURES
        )
        .encode(x=alt.value(0), y=y, text="text:N", tooltip=["chip:N", "text:N"])
    )
    layers = [bars, spans, marks, figures, *([reasons] if refused else [])]
    return alt.layer(*layers).properties(
        title=alt.TitleParams(f"{run}, relative to {baseline}", fontSize=12, anchor="start"),
        width=WIDTH * 0.72,
        height=alt.Step(_ROW, **{"for": "position"}),
    )


def _chip(row: Saving) -> str:
    """Name the chip, how it gates cores, and whether it cannot run one of the networks."""
    words = [row.profile]
    if row.halting is not None and row.halting.gating in ("core", "power"):
        words.append(f"gating {row.halting.gating}")
    if any(cost is not None and cost.what_if for cost in (row.halting, row.without)):
        words.append("what-if")
    if row.split is not None and row.split.of != "energy_j":
        words.append("events only")
    return ", ".join(words)


def _split(row: Saving) -> Split | None:
    """Return the causes of a saving; None where there are none, or they are parts of nothing."""
    return row.split if row.split is not None and row.split.without_j.value else None


def _levels(split: Split) -> Iterator[tuple[str, float, float, float]]:
    """Yield the parts with where they begin and end, relative to the energy without halting, and their J."""
    level = 1.0
    for field, words, sign in PARTS:
        energy = getattr(split, field).value
        following = level + sign * energy / split.without_j.value
        yield words, level, following, energy
        level = following


def _bars(row: Saving) -> Iterator[dict[str, Any]]:
    if (split := _split(row)) is not None:
        for words, start, end, energy in _levels(split):
            yield {"chip": _chip(row), "part": words, "from": start, "to": end, "text": si(energy, "J")}


def _marks(row: Saving) -> Iterator[dict[str, Any]]:
    if (split := _split(row)) is not None:
        ends = ((_WITHOUT, split.without_j.value), (_WITH, split.halting_j.value))
        for mark, energy in ends:
            at = energy / split.without_j.value
            yield {"chip": _chip(row), "mark": mark, "at": at, "text": si(energy, "J")}


def _spans(row: Saving) -> Iterator[dict[str, Any]]:
    saving = _saving(row)
    if _split(row) is not None and saving is not None:
        yield {"chip": _chip(row), "line": _INTERVAL, "from": 1 - saving.high, "to": 1 - saving.low}


def _ends(row: Saving) -> list[float]:
    """Return where the bars and the line of a row begin and end."""
    return [float(each[end]) for each in (*_bars(row), *_spans(row)) for end in ("from", "to")]


def _saving(row: Saving) -> Any:
    return row.energy_saving or row.dynamic_energy_saving


def _figures(row: Saving) -> str:
    assert row.split is not None
    text = f"{si(row.split.without_j.value, 'J')} to {si(row.split.halting_j.value, 'J')}"
    saving = _saving(row)
    if saving is None:
        return text
    if saving.value >= 0:
        return f"{text}: saves {saving.value:.0%} ({saving.low:.0%} to {saving.high:.0%})"
    return f"{text}: costs {-saving.value:.0%} more ({-saving.high:.0%} to {-saving.low:.0%})"


def _reason(row: Saving) -> str:
    reasons = row.unavailable
    why = (
        f"not compared: {reasons.get('halting') or reasons.get('without') or reasons.get('split', _NOTHING)}"
    )
    return why if len(why) <= _REASON else f"{why[: _REASON - 1].rstrip()}…"
