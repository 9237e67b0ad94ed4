"""Sections on what runs cost, side by side, and what halting saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from stas_neuro.display import NONE
from stas_neuro.energy import Comparison, Estimate
from stas_neuro.page.content import Cell, Section, number, quantity, saving, share, table, text
from stas_neuro.page.runs import Prices, Run
from stas_neuro.report.charts import costs_chart, savings_chart
from stas_neuro.report.refused import Refused
from stas_neuro.report.tables import deployed
from stas_neuro.report.what_if import what_if_lines

_DIGITS = 16
"""Hexadecimal digits of a hash that tell networks apart."""


def runs_section(runs: Sequence[Run]) -> Section:
    """Say what was run."""
    rows = [
        [
            text(run.label),
            text("yes" if run.saves_work else "no"),
            number(run.activity.all_images),
            share(run.accuracy),
            share(run.token_ratio),
            text(run.activity.origin.arithmetic),
            number(len(run.activity.cores)) if run.activity.cores else Cell("not placed"),
            text(run.activity.origin.chip),
            text((run.activity.origin.network or NONE)[:_DIGITS]),
        ]
        for run in runs
    ]
    columns = (
        "run", "halts", "images", "accuracy", "visits made", "arithmetic", "cores", "placed for",
        "network (hash)",
    )  # fmt: skip
    words = (
        "All runs are of the same images. Visits made: the share of (model step, block) pairs that compute a "
        "token, over all tokens."
    )
    return Section(
        "runs", "Runs", text=[words], tables=[table("runs-table", "The runs of this report", columns, rows)]
    )


def chips_section(prices: Prices) -> Section:
    """Price all runs on all chips; refused chips are listed with their reason."""
    section = Section("chips", "Chips side by side")
    section.text.append(
        "The thin line is the interval that published figures leave open. The thick line is the range over "
        "what is not known of the chip's structure, at the values of the profile."
    )
    section.draw("energy-chart", lambda: costs_chart(prices.costs))
    section.draw("latency-chart", lambda: costs_chart(prices.costs, "latency"))
    columns = (
        "chip", "run", "energy", "low", "high", "status", "over structures: low", "high", "dynamic energy",
        "latency", "low", "high", "images/s", "cores", "deployment",
    )  # fmt: skip
    each = [
        (label, prices.costs[label][chip])
        for chip in range(len(next(iter(prices.costs.values()))))
        for label in prices.costs
    ]
    rows = [_chip_row(label, cost) for label, cost in each]
    section.tables.append(table("chips-table", "Price of an image by chip and run", columns, rows))
    lines = what_if_lines((label, cost) for label, cost in each if isinstance(cost, Estimate))
    if lines:
        section.lists.append(("Chips that cannot run a network", lines))
    return section


def _chip_row(label: str, cost: Estimate | Refused) -> list[Cell]:
    if isinstance(cost, Refused):
        why = text(f"not priced: {cost.reason}")
        return [text(cost.profile), text(label), *[Cell(NONE)] * 3, why, *[Cell(NONE)] * 9]
    over = None
    if cost.structural_range is not None:
        known = cost.structural_range
        over = known.dynamic_energy_j if cost.energy_j is None else known.energy_j
    _, low, high = quantity(over, "J")
    return [
        text(cost.profile),
        text(label),
        *quantity(cost.energy_j, "J"),
        text(_status(cost)),
        low,
        high,
        quantity(cost.dynamic_energy_j, "J")[0],
        *quantity(cost.latency_s, "s"),
        quantity(cost.throughput_images_per_s, "")[0],
        number(cost.cores),
        text(deployed(cost)),
    ]


def _status(cost: Estimate) -> str:
    words = ["what-if: the chip cannot run it"] if cost.what_if else []
    if cost.energy_j is None:
        words.append(cost.unavailable["energy_j"])
    return "; ".join(words) or "priced"


def savings_section(run: str, result: Comparison) -> Section:
    """Say what halting saves on each chip, relative to each run without halting."""
    section = Section("savings", "What halting saves")
    section.text.append(
        f"Savings of {run}: + if it needs less than the run without halting, - if it needs more. Intervals "
        "come from the figures of the chip, the same in both runs."
    )
    for place, baseline in enumerate(dict.fromkeys(row.baseline for row in result.rows)):
        own = replace(result, rows=tuple(row for row in result.rows if row.baseline == baseline))
        section.draw(f"savings-chart-{place}", partial(savings_chart, {run: own}))
    columns = (
        "chip", "relative to", "energy saved", "low", "high", "dynamic energy saved", "low", "high",
        "latency saved", "low", "high", "operation count saved", "break-even visits", "schedules", "reason",
    )  # fmt: skip
    rows = [
        [
            text(row.profile),
            text(row.baseline),
            *saving(row.energy_saving),
            *saving(row.dynamic_energy_saving),
            *saving(row.latency_saving),
            share(row.op_count_saving),
            share(None if row.break_even_token_ratio is None else row.break_even_token_ratio.value),
            text(f"{row.schedule} / {row.baseline_schedule}"),
            text("; ".join(dict.fromkeys(row.unavailable.values())) or None),
        ]
        for row in result.rows
    ]
    section.tables.append(table("savings-table", "What halting saves, by chip and baseline", columns, rows))
    return section
