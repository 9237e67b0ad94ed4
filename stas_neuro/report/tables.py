"""Tables for the terminal, as rich renderables, which the caller prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from stas_neuro.display import NONE as NONE
from stas_neuro.display import si as si
from stas_neuro.energy import Estimate, Interval, Spread, StructuralRange
from stas_neuro.energy.result import TOTALS
from stas_neuro.errors import InputError
from stas_neuro.report.what_if import what_if_lines
from stas_neuro.report.word_table import WordTable
from stas_neuro.trace import Trace

_VARIANT = (
    ("dynamic_energy_j", "  dynamic", "J"),
    ("latency_s", "  latency", "s"),
    ("throughput_images_per_s", "  images per second", ""),
)
"""Fields of `Totals`, as `TOTALS`."""
_WORDS = {field: name.strip() for field, name, _ in TOTALS} | {
    "dynamic_energy_j": "dynamic energy",
    "halting_energy_j": "energy for halting",
    "static_energy_j": "static energy",
    "management_energy_j": "management energy",
    "management_latency_s": "time of managing processors",
    "what_if": "whether it can run the network",
}
_PROCESSORS = (
    "Most of this latency is the time of the processors that manage the chip. It differs from one set-up to "
    "the next by more than from network to network, which makes the interval wide."
)
_CORES_SHOWN = 1000


def predictions_table(
    trace: Trace,
    labels: npt.NDArray[np.integer] | None = None,
    classes: Sequence[str] = (),
    *,
    limit: int = 10,
) -> RenderableType:
    """Tabulate predictions, labels (B,) and the number of visits for the first `limit` images.

    Raises InputError if the number of labels is not that of images.
    """
    if labels is not None and np.shape(labels) != (trace.images,):
        raise InputError(
            f"labels have shape {np.shape(labels)}", f"give one for each of {trace.images} images"
        )
    table = new_table("image", "predicted", *(() if labels is None else ("label", "")), "visits used", "of")
    predictions = trace.predictions
    possible = int(np.prod(trace.visits.shape[1:]))
    for image in range(min(limit, trace.images)):
        cells: list[Text | str] = [str(image), _class(int(predictions[image]), classes)]
        if labels is not None:
            right = predictions[image] == labels[image]
            verdict = Text("right", style="green") if right else Text("wrong", style="red")
            cells += [_class(int(labels[image]), classes), verdict]
        add_row(table, *cells, f"{int(trace.visits[image].sum())}", f"{possible}")
    summary = f"{trace.images} images, token ratio {trace.token_ratio:.3f}"
    if labels is not None and trace.images:
        right_ones = int((predictions == labels).sum())
        summary += f", accuracy {right_ones / trace.images:.4f} ({right_ones} of {trace.images})"
    return Group(table, Text(), Text(summary))


def estimate_report(cost: Estimate, *, details: bool = True) -> RenderableType:
    """Tabulate energy and latency per inference; with `details` also by event, layer, step and core."""
    title = f"{cost.profile_title} ({cost.profile}), {deployed(cost)}, {cost.images} images"
    totals = new_table("per inference", "value", "low", "high", "median", "p99", "worst")
    spreads = {
        "energy_j": cost.energy_per_image_j,
        "dynamic_energy_j": cost.dynamic_energy_per_image_j,
        "latency_s": cost.latency_per_image_s,
    }
    for field, name, unit in TOTALS:
        if field == "management_latency_s" and cost.management_latency_s is None:
            continue  # few chips have it
        add_row(totals, name, *interval_cells(getattr(cost, field), unit), *_spread(spreads.get(field), unit))
    for variant in cost.variants:
        for field, name, unit in (("energy_j", f"if {variant.change}: energy", "J"), *_VARIANT):
            add_row(totals, name, *interval_cells(getattr(variant.totals, field), unit), "", "", "")
    what_if = (Text(line) for line in what_if_lines([("this network", cost)]))
    parts: list[RenderableType] = [Group(Text(title, style="bold"), *what_if, Text(), totals)]
    if cost.structural_range is not None:
        parts.append(Text(_structure(cost.structural_range)))
    if _waits_for_processors(cost):
        parts.append(Text(_PROCESSORS))
    if cost.hardware_steps is not None:
        parts.append(Text(_work(cost)))
    if details:
        parts += [
            _events(cost),
            _layers(cost),
            _steps(cost),
            _cores(cost),
            lines("Assumptions", cost.assumptions),
        ]
        parts.append(lines("Sources", [f"{key}: {citation}" for key, citation in cost.sources.items()]))
    if cost.unavailable:
        parts.append(lines("Not priced", _by_reason(cost.unavailable)))
    parts.append(disclaimer(cost.disclaimer))
    return Group(*(piece for part in parts for piece in (part, Text())))


def deployed(cost: Estimate) -> str:
    """Name the gating and the schedule, and the other options where they are not the defaults."""
    parts = [f"gating {cost.gating}", cost.schedule]
    parts += [cost.mode] if cost.mode != "single" else []
    parts += [f"{cost.contexts} contexts"] if cost.contexts > 1 else []
    parts += [f"{cost.replicas} replicas"] if cost.replicas > 1 else []
    parts += [f"stem {cost.stem}"] if cost.stem != "shared" else []
    return ", ".join([*parts, *(["early end"] * cost.early_end), *(["microcode"] * cost.microcode)])


def _events(cost: Estimate) -> Table:
    table = new_table("event", "count", "energy", "low", "high", "part", "priced by", "basis", "source")
    for event in cost.events:
        name = f"{event.event} (halting)" if event.halting else event.event
        part = _part(event.energy_j, cost)
        number = interval_cells(event.energy_j, "J")
        add_row(table, name, si(event.count, ""), *number, part, event.entry, event.basis, event.source)
    return table


def _layers(cost: Estimate) -> Table:
    table = new_table("layer", "node", "cores", "dynamic energy", "low", "high", "part")
    for layer in cost.layers:
        cores = NONE if layer.cores is None else str(layer.cores)
        energy = interval_cells(layer.dynamic_energy_j, "J")
        add_row(table, layer.name, layer.kind, cores, *energy, _part(layer.dynamic_energy_j, cost))
    return table


def _work(cost: Estimate) -> str:
    """Report the numbers of steps and cores, and the busiest core, as far as they are known."""
    parts = [f"{cost.hardware_steps} hardware steps"]
    if cost.hardware_steps_per_image not in (None, cost.hardware_steps):
        parts[0] += f", {_mean(cost.hardware_steps_per_image or 0.0)} from image to image"
    if cost.cores is not None:
        parts[0] += f", {cost.cores} {'core' if cost.cores == 1 else 'cores'}"
        if cost.chips is not None:
            parts[0] += f" on {cost.chips} {'chip' if cost.chips == 1 else 'chips'}"
    if cost.busiest_core_layers:
        share = cost.busiest_core_time_share
        time = "" if share is None else f" ({share:.0%} of the time)"
        parts.append(f"busiest core{time}: {', '.join(cost.busiest_core_layers)}")
    if cost.core_steps is not None and cost.core_steps_gated is not None:
        parts.append(f"core steps {_mean(cost.core_steps)}, gated {_mean(cost.core_steps_gated)}")
    return "; ".join(parts)


def _structure(found: StructuralRange) -> str:
    """Return the range over the variants, next to which the intervals of the profile may be narrow."""
    parts = []
    for field, unit in (("energy_j", "J"), ("dynamic_energy_j", "J"), ("latency_s", "s")):
        each: Interval | None = getattr(found, field)
        if each is not None:
            parts.append(f"{_WORDS[field]} {si(each.low, unit)} to {si(each.high, unit)}")
    return f"Over these structures, at the values of the profile: {', '.join(parts)}"


def _waits_for_processors(cost: Estimate) -> bool:
    """Tell whether processors that manage the chip take most of the latency."""
    managing, latency = cost.management_latency_s, cost.latency_s
    return managing is not None and latency is not None and managing.value > latency.value / 2


def _mean(count: float) -> str:
    """Format the mean of a count, which is a whole number if all images have the same count."""
    return f"{count:.1f}".removesuffix(".0")


def _by_reason(unavailable: Mapping[str, str]) -> list[str]:
    """Return one line for each reason, with the quantities that it leaves unknown."""
    grouped: dict[str, list[str]] = {}
    for field, why in unavailable.items():
        grouped.setdefault(why, []).append(_WORDS.get(field, field.replace("_", " ")))
    return [f"{', '.join(fields)}: {why}" for why, fields in grouped.items()]


def _cores(cost: Estimate) -> Table:
    table = new_table("core", "chip", "steps", "busy", "dynamic energy", "low", "high", "part", "layers")
    for core in cost.cores_breakdown[:_CORES_SHOWN]:
        share = NONE if core.busy_time_share is None else f"{core.busy_time_share:.1%}"
        add_row(
            table,
            "processor" if core.core is None else str(core.core),
            NONE if core.chip is None else str(core.chip),
            NONE if core.core_steps is None else _mean(core.core_steps),
            share,
            *interval_cells(core.dynamic_energy_j, "J"),
            _part(core.dynamic_energy_j, cost),
            ", ".join(core.layers),
        )
    if (more := len(cost.cores_breakdown) - _CORES_SHOWN) > 0:
        add_row(table, f"and {more} more, listed by --json", *[""] * (len(table.columns) - 1))
    return table


def _steps(cost: Estimate) -> Table:
    table = new_table("step", "hardware steps", "dynamic energy", "latency", "low", "high")
    for step in cost.steps:
        ticks = NONE if step.hardware_steps is None else str(step.hardware_steps)
        add_row(
            table,
            step.step,
            ticks,
            si(step.dynamic_energy_j.value, "J"),
            *interval_cells(step.latency_s, "s"),
        )
    return table


def interval_cells(interval: Interval | None, unit: str) -> tuple[str, str, str]:
    """Return value, low and high as texts."""
    if interval is None:
        return NONE, NONE, NONE
    return si(interval.value, unit), si(interval.low, unit), si(interval.high, unit)


def _spread(spread: Spread | None, unit: str) -> tuple[str, str, str]:
    if spread is None:
        return "", "", ""
    return si(spread.median.value, unit), si(spread.p99.value, unit), si(spread.worst.value, unit)


def _part(energy: Interval, cost: Estimate) -> str:
    whole = cost.dynamic_energy_j
    return f"{energy.value / whole.value:.1%}" if whole is not None and whole.value else NONE


def _class(index: int, classes: Sequence[str]) -> str:
    return classes[index] if 0 <= index < len(classes) else str(index)


def new_table(first: str, *rest: str) -> Table:
    """Make a table; all columns but the first are aligned to the right."""
    table = WordTable(first, *rest)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def add_row(table: Table, *cells: Text | str) -> None:
    """Add a row; brackets in names are text, not markup."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def lines(heading: str, texts: Sequence[str]) -> RenderableType:
    """Return indented lines below a heading."""
    return Group(Text(f"{heading}:"), *(Padding(Text(text), (0, 0, 0, 2)) for text in texts))


def disclaimer(text: str) -> Text:
    """Return the sentence that states the basis of the figures."""
    return Text(f"All figures are {text}.", style="bold")
