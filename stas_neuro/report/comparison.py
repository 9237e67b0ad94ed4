"""Comparisons of chips: tables for the terminal, and a CSV of all figures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from stas_neuro.display import NONE, si
from stas_neuro.energy import Comparison, Interval, Saving, ScheduleCost
from stas_neuro.files import Output
from stas_neuro.report.tables import add_row, disclaimer, interval_cells, lines, new_table
from stas_neuro.report.what_if import comparison_what_if

WATERFALL = (
    ("every_step_j", "stem at\nevery\nstep"),
    ("stem_saved_j", "stem\nsaved"),
    ("schedule_saved_j", "schedule\nsaved"),
    ("operations_saved_j", "opera-\ntions\nsaved"),
    ("gating_saved_j", "neurons,\nstatic\nsaved"),
    ("halting_cost_j", "halting\ncost"),
    ("halting_j", "with\nhalting"),
)
"""Fields of a `Split` in their order, with the headings of reports, in short lines."""
_WORDS = {
    "energy_saving": "energy saved",
    "dynamic_energy_saving": "dynamic energy saved",
    "latency_saving": "latency saved",
    "op_count_saving": "45 nm count",
    "savings_survival": "survival",
    "break_even_token_ratio": "break-even",
    "split": "causes",
    "over_images": "choice of images",
    "ceiling": "ceiling",
    "halting": "with halting",
    "without": "without halting",
}
"""Names of the fields of a `Saving` in reports."""


def comparison_report(result: Comparison, *, details: bool = True) -> RenderableType:
    """Tabulate what halting saves on each profile relative to each baseline; tables fit in 100 columns.

    Cells name a missing entry; other reasons are listed below the tables, with the columns they apply to.
    Without `details`: only energy, what limits its saving, and what the reader has to know about them.
    """
    saved = _saved_table(result, "energy_saving", "energy_j", "J")
    title = "Limits of the saving besides the profile (* dynamic energy only)"
    limits = [
        *_titled(title, _limits(result)),
        Text("over images: 95 % of the sets of images drawn from these, both runs with the same images"),
        Text("ceiling: halting that omits every visit, at no cost, on the schedule without halting"),
        Text(),
    ]
    unchecked = list(dict.fromkeys(reason for row in result.rows for reason in row.unchecked))
    caveats: list[RenderableType] = [Text(line) for line in comparison_what_if(result)]
    caveats += [lines("Not checked", unchecked)] if unchecked else []
    caveats.append(disclaimer(result.disclaimer))
    if not details:
        parts: list[RenderableType] = [
            Text(),
            *_titled("Energy with and without halting", saved),
            Text("saved: + if halting needs less, - if it needs more; --full says why, and explains"),
            Text("refused and unknown cells"),
            Text(),
            *limits,
        ]
        return Group(*parts, *caveats)
    dynamic = _saved_table(result, "dynamic_energy_saving", "dynamic_energy_j", "J")
    latency = _saved_table(result, "latency_saving", "latency_s", "s")
    parts = [
        Text(),
        *_titled("Energy with and without halting", saved),
        *_titled("Dynamic energy with and without halting", dynamic),
        *_titled("Latency with and without halting", latency),
        Text("saved: + if halting needs less, - if it needs more; schedules: with / without halting"),
        Text("unknown, refused: reasons below"),
        Text(),
        *limits,
        *_titled("Causes of the saving (* dynamic energy only)", _waterfall(result)),
        *_titled("Remaining share of the saving in the operation count", _survival(result)),
        Text("survival: saving divided by the saving in the 45 nm operation count"),
        Text("break-even: token ratio at which the costs with and without halting are equal"),
        Text(),
    ]
    reasons = _reasons(result)
    if reasons:
        parts.append(lines("Unknown", reasons))
    if any(row.idle_skipped is not None for row in result.rows):
        heading = "Saved if neurons without work are not updated, where that is unknown"
        parts += [Text(), *_titled(heading, _skipped(result))]
    return Group(*parts, *caveats)


def schedules_report(rows: Sequence[ScheduleCost]) -> RenderableType:
    """Tabulate hardware steps and latency of runs on the schedules that they allow."""
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
    legend = Text("steps: hardware steps per image; changed: share of visits that differ from the first run")
    return Group(Text(), heading, table, Text(), legend)


def csv_output(path: Path, *, force: bool) -> Output:
    """Return the output of a `comparison_csv`, for `check_outputs`."""
    return Output(
        path=path,
        is_earlier=lambda found: found.is_file() and found.read_bytes().startswith(b"profile,baseline,"),
        otherwise="is not a comparison as CSV",
        force=force,
    )


def comparison_csv(results: Mapping[str, Comparison]) -> str:
    """Return one line for each profile, baseline and run with halting; `results` are by the name of the run.

    Intervals have the columns name, name_low, name_high.
    """
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    rows = [
        {"profile": row.profile, "baseline": row.baseline, "run": run} | row.to_row()
        for run, result in results.items()
        for row in result.rows
    ]
    writer.writerow(rows[0] if rows else ())
    writer.writerows(row.values() for row in rows)
    return output.getvalue()


def _titled(title: str, table: RenderableType) -> tuple[RenderableType, ...]:
    return Text(title, style="bold"), table, Text()


def _saved_table(result: Comparison, name: str, field: str, unit: str) -> RenderableType:
    more = ("schedules",) if field == "latency_s" else ()
    table = new_table("profile", "relative to", *more, "with", "without", "saved", "low", "high")
    for row in result.rows:
        costs = (getattr(cost, field, None) for cost in (row.halting, row.without))
        cells = [interval_cells(cost, unit)[0] for cost in costs]
        schedules = [f"{row.schedule} / {row.baseline_schedule}"] if more else []
        add_row(table, row.profile, row.baseline, *schedules, *cells, *_saved(row, name))
    return table


def _waterfall(result: Comparison) -> RenderableType:
    table = new_table("profile", "relative to", *(heading for _, heading in WATERFALL))
    for row in result.rows:
        if row.split is not None:
            name = row.profile + ("" if row.split.of == "energy_j" else " *")
            cells = (si(getattr(row.split, field).value, "J") for field, _ in WATERFALL)
            add_row(table, name, row.baseline, *cells)
    return table


def _limits(result: Comparison) -> RenderableType:
    headings = ("saved", "over\nimages\nlow", "high", "ceiling", "low", "high")
    table = new_table("profile", "relative to", *headings)
    for row in result.rows:
        if row.over_images is not None or row.ceiling is not None:
            total = row.energy_saving is not None
            name = "energy_saving" if total else "dynamic_energy_saving"
            images = _shares(getattr(row.over_images, name, None) or getattr(row, name))
            images = images if row.over_images is not None else (images[0], NONE, NONE)
            label = row.profile + ("" if total else " *")
            add_row(table, label, row.baseline, *images, *_shares(row.ceiling))
    return table


def _survival(result: Comparison) -> RenderableType:
    ends = "low", "high"
    table = new_table("profile", "relative to", "45 nm\ncount", "survival", *ends, "break-\neven", *ends)
    for row in result.rows:
        if row.split is not None:
            count = NONE if row.op_count_saving is None else f"{row.op_count_saving:+.1%}"
            ratios = (*_numbers(row.savings_survival), *_numbers(row.break_even_token_ratio))
            add_row(table, row.profile, row.baseline, count, *ratios)
    return table


def _skipped(result: Comparison) -> RenderableType:
    table = new_table("profile", "relative to", "energy", "low", "high", "latency", "low", "high")
    for row in result.rows:
        if row.idle_skipped is not None:
            both = (row.idle_skipped.energy_saving, row.idle_skipped.latency_saving)
            cells = [cell for saving in both for cell in _shares(saving)]
            add_row(table, row.profile, row.baseline, *cells)
    return table


def _shares(saving: Interval | None) -> tuple[str, str, str]:
    if saving is None:
        return NONE, NONE, NONE
    return f"{saving.value:+.1%}", f"{saving.low:+.1%}", f"{saving.high:+.1%}"


def _saved(row: Saving, name: str) -> tuple[str, str, str]:
    saving: Interval | None = getattr(row, name)
    if saving is not None:
        return _shares(saving)
    if row.missing:
        return f"lacks {', '.join(row.missing)}", "", ""
    refused = row.halting is None or row.without is None
    return "refused" if refused else "unknown", "", ""


def _numbers(interval: Interval | None) -> tuple[str, str, str]:
    if interval is None:
        return NONE, NONE, NONE
    return f"{interval.value:.2f}", f"{interval.low:.2f}", f"{interval.high:.2f}"


def _reasons(result: Comparison) -> list[str]:
    """Return one line for each profile and reason, with the baselines and columns without a value."""
    columns: dict[tuple[str, str], dict[str, None]] = {}
    against: dict[tuple[str, str], dict[str, None]] = {}
    for row in result.rows:
        for field, why in row.unavailable.items():
            columns.setdefault((row.profile, why), {})[_WORDS[field]] = None
            against.setdefault((row.profile, why), {})[row.baseline] = None
    return [
        f"{profile} relative to {', '.join(against[profile, why])}, {', '.join(names)}: {why}"
        for (profile, why), names in columns.items()
    ]
