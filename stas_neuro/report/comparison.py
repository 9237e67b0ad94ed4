"""Comparisons of chips: tables for the terminal, and a CSV of all figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from stas_neuro.energy import Comparison, Estimate, Interval, Saving, ScheduleCost
from stas_neuro.report.tables import NONE, add_row, disclaimer, interval_cells, lines, new_table, si

WATERFALL = (
    ("every_step_j", "stem at every step"),
    ("stem_saved_j", "stem saved"),
    ("schedule_saved_j", "schedule saved"),
    ("operations_saved_j", "operations saved"),
    ("gating_saved_j", "gating saved"),
    ("halting_cost_j", "halting cost"),
    ("halting_j", "with halting"),
)
"""Fields of a `Split` in their order, and what reports call them."""


def comparison_report(result: Comparison) -> RenderableType:
    """What halting saves, profile by profile, against each baseline; cells say which entry is missing."""
    headings = (
        *("against", "schedules", "energy with", "without", "saved", "dynamic saved", "latency saved"),
        "45 nm count",
    )
    table = new_table("profile", *headings)
    reasons: dict[str, None] = {}
    for row in result.rows:
        add_row(
            table,
            row.profile,
            row.baseline,
            f"{row.schedule} / {row.baseline_schedule}",
            _energy(row, row.halting),
            _energy(row, row.without),
            *(_saved(row, name) for name in ("energy_saving", "dynamic_energy_saving", "latency_saving")),
            NONE if row.op_count_saving is None else f"{row.op_count_saving:+.1%}",
        )
        reasons |= {f"{row.profile}: {why}": None for why in row.unavailable.values()}
    heading = Text("With and without halting", style="bold")
    legend = Text("saved: + less, - more with halting; in brackets low to high; schedules: with / without")
    explained = Text(
        "survives: saving over that of the 45 nm count; break-even: token ratio at which both cost the same"
    )
    parts: list[RenderableType] = [heading, table, legend, _waterfall(result), explained]
    if reasons:
        parts.append(lines("Not priced", list(reasons)))
    return Group(*parts, disclaimer(result.disclaimer))


def schedules_report(rows: Sequence[ScheduleCost]) -> RenderableType:
    """Hardware steps and latency of runs on the schedules that they allow."""
    table = new_table("profile", "run", "schedule", "steps", "latency", "low", "high", "images/s", "changed")
    for row in rows:
        late = f" (late {row.late})" if row.late else ""
        changed = NONE if row.visits_changed is None else f"{row.visits_changed:.2%}"
        add_row(
            table,
            row.profile,
            row.run,
            row.schedule + late,
            str(row.hardware_steps),
            *interval_cells(row.latency_s, "s"),
            si(row.throughput_images_per_s.value, ""),
            changed,
        )
    heading = Text("Schedules", style="bold")
    legend = Text(
        "steps: hardware steps of an image; changed: visits decided otherwise than by the first run"
    )
    return Group(heading, table, legend)


def comparison_csv(result: Comparison) -> str:
    """One line a profile and baseline; intervals have columns ending in nothing, _low and _high."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    rows = [_columns(row) for row in result.rows]
    writer.writerow(rows[0] if rows else ())
    writer.writerows(row.values() for row in rows)
    return output.getvalue()


def _columns(row: Saving) -> dict[str, object]:
    columns: dict[str, object] = {"profile": row.profile, "baseline": row.baseline}
    columns["gating"] = row.halting.gating if row.halting else None
    columns |= {"schedule": row.schedule, "baseline_schedule": row.baseline_schedule}
    for prefix, cost in (("with", row.halting), ("without", row.without)):
        for name in ("cores", "chips", "hardware_steps", "token_ratio"):
            columns[f"{prefix}_{name}"] = getattr(cost, name, None)
        for name in ("energy_j", "dynamic_energy_j", "static_energy_j", "halting_energy_j", "latency_s"):
            columns |= _ends(f"{prefix}_{name}", getattr(cost, name, None))
    for name in ("energy_saving", "dynamic_energy_saving", "latency_saving"):
        columns |= _ends(name, getattr(row, name))
    columns["op_count_saving"] = row.op_count_saving
    columns |= _ends("savings_survival", row.savings_survival)
    columns |= _ends("break_even_token_ratio", row.break_even_token_ratio)
    columns["split_of"] = row.split.of if row.split else None
    for name, _ in WATERFALL:
        columns |= _ends(f"split_{name}", getattr(row.split, name, None))
    columns["unavailable"] = "; ".join(dict.fromkeys(row.unavailable.values()))
    return columns


def _ends(name: str, interval: Interval | None) -> dict[str, object]:
    return {
        f"{name}{end}": getattr(interval, corner, None)
        for end, corner in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


def _waterfall(result: Comparison) -> RenderableType:
    parts = (heading for _, heading in WATERFALL)
    table = new_table("where it comes from", "against", *parts, "survives", "break-even")
    for row in result.rows:
        if row.split is not None:
            name = row.profile + ("" if row.split.of == "energy_j" else " (dynamic only)")
            cells = [si(getattr(row.split, field).value, "J") for field, _ in WATERFALL]
            ratios = _number(row.savings_survival), _number(row.break_even_token_ratio)
            add_row(table, name, row.baseline, *cells, *ratios)
    return table


def _energy(row: Saving, cost: Estimate | None) -> str:
    if cost is None:
        return _lacks(row)
    if cost.dynamic_energy_j is None:
        return "no event has a price"
    if cost.energy_j is None:
        return f"{si(cost.dynamic_energy_j.value, 'J')} (dynamic only)"
    return si(cost.energy_j.value, "J")


def _saved(row: Saving, name: str) -> str:
    saving: Interval | None = getattr(row, name)
    if saving is None:
        return _lacks(row)
    return f"{saving.value:+.1%} ({saving.low:+.1%} to {saving.high:+.1%})"


def _number(interval: Interval | None) -> str:
    if interval is None:
        return NONE
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _lacks(row: Saving) -> str:
    return f"lacks {', '.join(row.missing)}" if row.missing else "refused, see below"
